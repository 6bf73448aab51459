"""Our layer as a torch.nn.Module. Theory: docs/interop.md."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.composition import backward_without_input
from ds_core.engine.module import own_tensors, walk
from ds_core.engine.nested_values import Slot, leaves, map_leaves, none_if_zero, pair_leaves, put_tensors, take_tensors
from ds_core.engine.trace import Entry, describe, no_record, record
from ds_core.interop.tensor_slots import TensorSlot, find_tensors, swap_tensors, swapped_tensors


def as_torch(layer: Any) -> torch.nn.Module:
    """A torch.nn.Module that computes what `layer` does and gets its gradients from `layer.backward`.

    The layer's parameters become the module's `torch.nn.Parameter`s, under the same names and with the same
    memory; the layer's attributes are these same objects from then on, so both sides see every change.
    Gradients reach autograd as any module's do: hooks, `torch.autograd.grad`, checkpointing, autocast and
    data parallelism work. A second derivative raises; `torch.compile` breaks its graph here.

    Raises:
        TypeError: a layer of a foreign class holds a parameter in no attribute, list or dict.
    """
    return TorchModule(layer)


class _Call:
    """One forward: structures with slots where the tensors were, which only autograd holds."""

    def __init__(self, layer: Any, slots: list[list[TensorSlot]], args: Any, kwargs: Any) -> None:
        self.layer = layer
        self.slots = slots
        self.args = args
        self.kwargs = kwargs
        self.outputs: Any = None
        self.layers: list[Any] = []
        self.saved: Any = None

    def input_gradients(self, returned: Any, needed: Sequence[bool]) -> list[Tensor | None]:
        """Sort what backward returned by input: one gradient for each input that can have one, in forward's order."""
        inputs = _in_order(self.layer, self.args, self.kwargs)
        wanted = [value for value in inputs if _can_have_gradient(value)]
        one = len(wanted) == 1 and not (isinstance(wanted[0], Slot) and isinstance(returned, tuple))
        given = (returned,) if one or not isinstance(returned, tuple) else returned
        if len(given) > len(wanted):  # LSTM(x, None) returns the gradients of its states, too
            wanted = [value for value in inputs if value is None or _can_have_gradient(value)]
        gradients: list[Tensor | None] = [None] * len(needed)
        for index, value in enumerate(wanted):
            for leaf, gradient in pair_leaves(value, given[index] if index < len(given) else None):
                if isinstance(leaf, Slot):
                    gradients[leaf.index] = gradient
                    if index >= len(given) and returned is not None and needed[leaf.index]:
                        raise TypeError(
                            f"input {inputs.index(value) + 1} of {describe(self.layer)} requires a gradient, but its "
                            f"backward gives only {len(given)}: detach that input"
                        )
        return gradients


class _Bridge(torch.autograd.Function):
    """Forward and backward of a `_Call`. The tensors: the layer's parameters, then those among its inputs."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = tensors[len(call.slots) :]
        ctx.autocast = _autocast_of(tensors)
        with ctx.autocast(), record() as trace:
            outputs = call.layer.forward(*put_tensors(call.args, inputs), **put_tensors(call.kwargs, inputs))
            entries = trace.take()
        call.outputs, results = take_tensors(outputs)
        call.layers = [entry.layer for entry in entries]
        call.saved, saved = take_tensors([entry.saved for entry in entries])
        results = _apart(results, [*tensors, *saved])
        ctx.call = call
        ctx.save_for_backward(*tensors[: len(call.slots)], *saved)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[tensor for tensor in results if not tensor.is_floating_point()])
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        call: _Call = ctx.call
        own = len(call.slots)
        needed: tuple[bool, ...] = ctx.needs_input_grad[1:]
        tensors = ctx.saved_tensors
        # stand-ins with the same memory and a .grad of their own: adding to the parameters' is autograd's business
        stand_ins = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors[:own], needed, strict=False)]
        saved = put_tensors(call.saved, tensors[own:])
        entries = [Entry(layer, kept) for layer, kept in zip(call.layers, saved, strict=True)]
        dys = map_leaves(lambda leaf: grads[leaf.index] if isinstance(leaf, Slot) else None, call.outputs)
        dys = [none_if_zero(dy) for dy in (dys if isinstance(dys, tuple) else (dys,))]
        returned = None
        with ctx.autocast(), swapped_tensors(call.slots, stand_ins), record(entries):
            if any(needed[own:]):
                returned = call.layer.backward(*dys)
            else:
                backward_without_input(call.layer, *dys)
        gradients = [tensor.grad for tensor in stand_ins] + call.input_gradients(returned, needed[own:])
        return (None, *(_once(gradients) if torch.is_grad_enabled() else gradients))


class _Once(torch.autograd.Function):
    """Gradients asked for with `create_graph=True`: they can be used, and not differentiated again."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        raise RuntimeError("as_torch: a handwritten backward has no derivative, so no second derivative can be taken")


def _once(gradients: list[Tensor | None]) -> list[Tensor | None]:
    anchor = torch.empty(0, requires_grad=True)
    guarded = iter(_Once.apply(anchor, *[g for g in gradients if g is not None]))  # type: ignore[no-untyped-call]
    return [None if gradient is None else next(guarded) for gradient in gradients]


def _apart(results: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    """The outputs, none a view of a storage that nobody else has.

    The y of a linear layer is a view of its matrix product; autograd would forbid writing to it, `ReLU(inplace=True)`.
    """
    storages = [tensor.untyped_storage().data_ptr() for tensor in [*kept, *results]]
    alone = [storages.count(tensor.untyped_storage().data_ptr()) == 1 for tensor in results]
    return [t.data if t._is_view() and its_own else t for t, its_own in zip(results, alone, strict=True)]


class TorchModule(torch.nn.Module):
    """What `as_torch` returns: empty modules named as the layer's parts are, with its parameters and buffers."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._layer = layer
        self._slots: dict[str, list[list[TensorSlot]]] = {"parameter": [], "buffer": []}
        self._first_names: dict[str, list[str]] = {"parameter": [], "buffer": []}
        found: dict[int, list[TensorSlot]] = {}
        find_tensors(layer, found, set())
        for kind in ("parameter", "buffer"):
            adopted: dict[int, Tensor] = {}
            for path, part in walk(layer):
                for name, tensor in own_tensors(part, kind):
                    full_name = f"{path}.{name}" if path else name
                    if id(tensor) not in adopted:
                        if id(tensor) not in found:
                            raise TypeError(f"as_torch: {describe(part)} holds {name} in no attribute, list or dict")
                        adopted[id(tensor)] = _as_parameter(tensor) if kind == "parameter" else tensor
                        self._slots[kind].append(found[id(tensor)])
                        self._first_names[kind].append(full_name)
                    self._register(full_name, adopted[id(tensor)], kind)
        _give_own(self)
        self.training = getattr(layer, "training", True)
        self.register_load_state_dict_post_hook(_give_own)  # type: ignore[no-untyped-call]

    def _register(self, full_name: str, tensor: Tensor, kind: str) -> None:
        module: torch.nn.Module = self
        *path, name = full_name.split(".")
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        if kind == "parameter":
            module.register_parameter(name, tensor)  # type: ignore[arg-type]
        else:
            module.register_buffer(name, tensor, persistent=not name.startswith("_"))

    def own(self, kind: str) -> list[Tensor]:
        """The tensors in `_slots`, as this module holds them now: conversions and parametrizations change them."""
        names = [name.rpartition(".") for name in self._first_names[kind]]
        return [getattr(self.get_submodule(path), name) for path, _, name in names]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        parameters, buffers = self.own("parameter"), self.own("buffer")
        (positional, named), inputs = take_tensors((args, kwargs))
        with swapped_tensors(self._slots["parameter"] + self._slots["buffer"], parameters + buffers):
            if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in parameters + inputs):
                with no_record():
                    return self._layer.forward(*args, **kwargs)
            call = _Call(self._layer, self._slots["parameter"], positional, named)
            results = _Bridge.apply(call, *parameters, *inputs)  # type: ignore[no-untyped-call]
        return put_tensors(call.outputs, results)

    def train(self, mode: bool = True) -> "TorchModule":
        super().train(mode)
        if hasattr(self._layer, "train"):
            self._layer.train(mode)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> "TorchModule":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        _give_own(self)
        return self

    def __repr__(self) -> str:
        return f"as_torch({self._layer!r})"


def _give_own(module: Any, _: Any = None) -> None:
    """Give the layer of a `TorchModule`, for good, the tensors that the module has now."""
    for kind, slots in module._slots.items():
        swap_tensors(slots, [tensor if tensor.is_leaf else tensor.detach() for tensor in module.own(kind)])


def _as_parameter(tensor: Tensor) -> torch.nn.Parameter:
    if isinstance(tensor, torch.nn.Parameter):
        return tensor
    adopted = torch.nn.Parameter(tensor.detach(), tensor.requires_grad)
    adopted.grad = tensor.grad
    return adopted


def _can_have_gradient(value: Any) -> bool:
    return any(isinstance(leaf, Slot) and leaf.differentiable for leaf in leaves(value))


def _in_order(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The inputs in the order of forward's signature, however they were passed."""
    if not kwargs:
        return list(args)
    signature = inspect.signature(layer.forward)
    ordered: list[Any] = []
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            ordered += value
        else:
            ordered += value.values() if kind is inspect.Parameter.VAR_KEYWORD else [value]
    return ordered


def _autocast_of(tensors: Sequence[Tensor]) -> Callable[[], AbstractContextManager[Any]]:
    """A context with the autocast of now, for backward too; no cache, whose casts made here would lack a gradient."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    return partial(torch.autocast, device, dtype=dtype, enabled=enabled, cache_enabled=False)
