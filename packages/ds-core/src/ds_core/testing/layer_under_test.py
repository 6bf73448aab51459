"""A layer under test: evaluated by the handwritten engine and by autograd.

Every evaluation works on copies of its inputs and leaves generators and buffers as
they were, so all see the same random draws and the same running statistics.
"""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from ds_core.engine.random_state import random_state, unchanged_random_state
from ds_core.engine.recompute import tape
from ds_core.engine.trace import TraceError, no_record, record
from ds_core.primitives import BlackBoxError
from ds_core.testing.calls import Call, align_outputs
from ds_core.testing.failure import CheckFailed, largest_difference, name_of
from ds_core.testing.named_tensors import align, floating_tensors, outline, tensors, transform


class Evaluation(NamedTuple):
    """What one evaluation gave: outputs, gradients (None means zeros) and buffers afterwards, all by name."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]
    returned: Sequence[Any] = ()


class LayerUnderTest:
    """A float64 copy of a layer (or of a torch.nn module, or a function)."""

    def __init__(self, layer: Any, skip: Collection[str] = ()) -> None:
        self.layer = copy.deepcopy(layer)
        self.function: Callable[..., Any] = getattr(self.layer, "forward", self.layer)
        self.name = name_of(layer)
        self.skip = skip
        if hasattr(self.layer, "double"):
            self.layer.double()
        else:
            for _, tensor in _named_parameters(self.layer):
                tensor.data = tensor.data.double()
        self.parameters = dict(_named_parameters(self.layer))
        self.buffers = self._named_buffers()
        modules = self.layer.modules() if hasattr(self.layer, "modules") else [self.layer]
        attributes = [value for module in modules for value in getattr(module, "__dict__", {}).values()]
        self.generators = [value for value in attributes if isinstance(value, torch.Generator)]

    def trainable(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.parameters.items() if tensor.requires_grad}

    def leaves(self, call: Call, suffix: str = "") -> dict[str, Tensor]:
        """Everything that has a gradient, under the gradient's name: inputs first."""
        inputs = {f"gradient of input {name}{suffix}": tensor for name, tensor in call.leaves()}
        return inputs | {f"gradient of {name}": tensor for name, tensor in self.trainable().items()}

    def outputs(self, call: Call) -> Any:
        """The outputs of one forward that remembers nothing."""
        with self.restored(), no_record():
            return call.copy().run(self.function)

    def draws(self, call: Call) -> bool:
        """Whether forward draws random numbers."""
        with self.restored(), no_record():
            before = _generator_states()
            call.copy().run(self.function)
            return any(not torch.equal(a, b) for a, b in zip(before, _generator_states(), strict=True))

    def draws_past_drawn(self, call: Call) -> list[str]:
        """The generators that forward draws from even while what an earlier one drew is replayed.

        Noise that is only added changes no gradient: it shows here alone.
        """
        draws: list[Tensor] = []
        with unchanged_random_state(), self.restored(), no_record():
            with tape(draws):
                call.copy().run(self.function)
            before = self._random_states()
            with tape(draws, replay=True):
                call.copy().run(self.function)
            after = self._random_states()
        return [name for name, state in after.items() if state != before[name]]

    def _random_states(self) -> dict[str, Any]:
        """By whose generator it is, as numbers that can be compared."""
        states = random_state() | {"the layer": [generator.get_state() for generator in self.generators]}
        return {name: transform(state, Tensor.tolist) for name, state in states.items()}

    def handwritten(
        self,
        calls: Sequence[Call],
        gradients: Sequence[tuple[Any, ...]],
        check: str = "autograd",
        layout: Callable[[Tensor], Tensor] = torch.clone,
        gradient_layout: Callable[[Tensor], Tensor] | None = None,
        guard: Callable[[], AbstractContextManager[Any]] = nullcontext,
        **options: Any,
    ) -> Evaluation:
        """Forward of each call in order, then backward of each in reverse.

        What must hold in every evaluation is checked in passing: the structure of what backward
        returns; inputs, given gradients, outputs and parameters not written to; gradients owned;
        nothing for frozen parameters; the trace empty at the end.

        Args:
            check: during which check this is, for messages.
            layout: copies a tensor into the memory layout that inputs and gradients come in.
            gradient_layout: that of the gradients, if it is another one.
            guard: context in which the layer's own code runs.
            options: keyword arguments for backward.
        """
        for tensor in self.parameters.values():
            tensor.grad = None
        calls = [call.change(lambda _, tensor: layout(tensor)) for call in calls]
        dys = [transform(gradient, gradient_layout or layout) for gradient in gradients]
        with self.restored(), self.explained(check):
            with record():
                watch = _Watch(self)
                watch.add([*tensors([list(call.arguments.values()) for call in calls], "input")])
                watch.add([*tensors(dys, "the given gradient"), *self.parameters.items()])
                with guard():
                    outputs = [call.run(self.function) for call in calls]
                watch.check("forward")
                for output in outputs:
                    self._check_dtype(output)
                watch.add([*tensors(outputs, "the output")])
                with guard():
                    returned = [self.layer.backward(*dy, **options) for dy in reversed(dys)][::-1]
                watch.check("backward")
            buffers = self._buffers_after()
        found: dict[str, Tensor | None] = {}
        for index, (call, value) in enumerate(zip(calls, returned, strict=True)):
            if options.get("input_gradient", True):
                found |= self._input_gradients(call, value, _suffix(index, len(calls)))
        self._check_parameter_gradients([*watch.tensors, *tensors(returned, "the returned gradient")])
        found |= {f"gradient of {name}": tensor.grad for name, tensor in self.trainable().items()}
        return Evaluation(_named_outputs(outputs), found, buffers, returned)

    def autograd(
        self,
        calls: Sequence[Call],
        gradients: Sequence[tuple[Any, ...]],
        check: str = "autograd",
        layout: Callable[[Tensor], Tensor] = torch.clone,
    ) -> Evaluation:
        """The same forward of the same calls, and PyTorch's gradients of sum(dy y)."""
        leaves: dict[str, Tensor] = {}
        outputs = []
        with self.restored(), self.explained(check), torch.enable_grad():
            total = torch.zeros((), dtype=torch.float64)
            for index, (call, gradient) in enumerate(zip(calls, gradients, strict=True)):
                wanted = {name for name, _ in call.differentiable()}
                fresh = call.change(partial(_leaf, wanted, layout))
                leaves |= self.leaves(fresh, _suffix(index, len(calls)))
                outputs.append(fresh.run(self.function))
                for _, y, dy in align_outputs(outputs[-1], gradient):
                    if dy is not None and y.requires_grad:
                        total = total + (y * dy).sum().to(total.device)
            found: Sequence[Tensor | None] = [None] * len(leaves)
            if total.requires_grad:
                found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
            buffers = self._buffers_after()
        return Evaluation(_named_outputs(outputs), dict(zip(leaves, found, strict=True)), buffers)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put generators and buffers back at the end."""
        generators = [(generator, generator.get_state()) for generator in self.generators]
        buffers = [(tensor, tensor.clone()) for tensor in self.buffers.values()]
        state, *device_states = _generator_states()
        try:
            yield
        finally:
            torch.set_rng_state(state)
            if device_states:
                torch.cuda.set_rng_state_all(device_states)
            for generator, before in generators:
                generator.set_state(before)
            with torch.no_grad():
                for tensor, value in buffers:
                    tensor.copy_(value)

    @contextmanager
    def explained(self, check: str) -> Iterator[None]:
        """Turn whatever goes wrong inside into a `CheckFailed` that says during which check."""
        try:
            yield
        except CheckFailed:
            raise
        except TraceError as error:
            raise CheckFailed(self.name, "trace", f"{error} (during {check!r})") from error
        except BlackBoxError as error:
            raise CheckFailed(self.name, "primitives", str(error)) from error
        except Exception as error:
            raise CheckFailed(self.name, check, f"raised {type(error).__name__}: {error}") from error

    def fail(self, check: str, message: str, tensor: str | None = None) -> NoReturn:
        raise CheckFailed(self.name, check, message, tensor)

    def _named_buffers(self) -> dict[str, Tensor]:
        return dict(self.layer.named_buffers()) if hasattr(self.layer, "named_buffers") else {}

    def _buffers_after(self) -> dict[str, Tensor]:
        now = self._named_buffers()
        for name, tensor in self.buffers.items():
            if now.get(name) is not tensor:
                self.fail("repeatable", f"forward put another tensor in the place of buffer {name}; update it in place")
        return {name: tensor.detach().clone() for name, tensor in self.buffers.items()}

    def _check_dtype(self, output: Any) -> None:
        for name, y in floating_tensors(output, "y"):
            if y.dtype != torch.float64 and "dtype" not in self.skip:
                self.fail("dtype", f"output {name} is {y.dtype} where inputs and parameters are float64", name)

    def _input_gradients(self, call: Call, returned: Any, suffix: str) -> dict[str, Tensor | None]:
        wanted = call.differentiable()
        names = ", ".join(name for name, _ in wanted)
        values: Sequence[Any] = [returned]
        if len(wanted) != 1:
            values = [None] * len(wanted) if returned is None else returned
            if len(wanted) == 0 and not any(True for _ in tensors(returned, "")):
                return {}
            if not isinstance(values, (tuple, list)) or len(values) != len(wanted):
                expected = f"a tuple of {len(wanted)}: the gradients of {names}" if wanted else "None"
                advice = "; name inputs that have none in constants=" if wanted else ": no input is differentiable"
                self.fail("structure", f"backward returned {outline(returned)}, expected {expected}{advice}")
        found: dict[str, Tensor | None] = {}
        for (name, value), gradient in zip(wanted, values, strict=True):
            try:
                aligned = list(align(value, gradient, name))
            except ValueError as error:
                raise CheckFailed(self.name, "structure", f"backward: {error}") from error
            found |= {f"gradient of input {path}{suffix}": given for path, _, given in aligned}
        return found

    def _check_parameter_gradients(self, others: list[tuple[str, Tensor]]) -> None:
        """Frozen parameters have none, and nobody else holds the memory of the others."""
        owners = {tensor.untyped_storage().data_ptr(): name for name, tensor in reversed(others)}
        for name, tensor in self.parameters.items():
            if tensor.grad is not None and not tensor.requires_grad:
                self.fail("frozen", f"{name} requires no gradient, yet its .grad was written", f"gradient of {name}")
            if tensor.grad is None or tensor.grad.numel() == 0 or "ownership" in self.skip:
                continue
            memory = tensor.grad.untyped_storage().data_ptr()
            if memory in owners:
                message = (
                    f"gradient of {name} shares memory with {owners[memory]}, which accumulate() may write into later"
                )
                self.fail("ownership", f"{message}: clone() it before accumulate()", f"gradient of {name}")
            owners[memory] = f"gradient of {name}"


class _Watch:
    """Sees whether tensors are written to."""

    def __init__(self, subject: LayerUnderTest) -> None:
        self.subject = subject
        self.tensors: list[tuple[str, Tensor]] = []
        self._before: list[tuple[int, Tensor]] = []

    def add(self, named: list[tuple[str, Tensor]]) -> None:
        self.tensors += named
        self._before += [(tensor._version, tensor.clone()) for _, tensor in named]

    def check(self, during: str) -> None:
        if "unchanged" in self.subject.skip:
            return
        for (name, tensor), (version, value) in zip(self.tensors, self._before, strict=True):
            if tensor._version != version or largest_difference(tensor, value)[0] != 0:
                self.subject.fail("unchanged", f"{during} wrote into {name}, which is not its own", name)


def _generator_states() -> list[Tensor]:
    """Of the CPU, then of each CUDA device."""
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *on_devices]


def _named_parameters(layer: Any) -> list[tuple[str, Tensor]]:
    if hasattr(layer, "named_parameters"):
        return list(layer.named_parameters())
    own = layer.parameters() if hasattr(layer, "parameters") else []
    return [(f"parameter {index}", tensor) for index, tensor in enumerate(own)]


def _leaf(wanted: Collection[str], layout: Callable[[Tensor], Tensor], name: str, tensor: Tensor) -> Tensor:
    return layout(tensor.detach()).requires_grad_(name in wanted and tensor.is_floating_point())


def _named_outputs(outputs: list[Any]) -> dict[str, Tensor]:
    named = [pair for i, output in enumerate(outputs) for pair in tensors(output, "y" + _suffix(i, len(outputs)))]
    return {name: tensor.detach() for name, tensor in named}


def _suffix(index: int, calls: int) -> str:
    return "" if calls == 1 else f" of call {index + 1}"
