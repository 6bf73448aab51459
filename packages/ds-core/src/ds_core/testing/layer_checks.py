"""The checks behind `check_layer` and `check_loss`, one method each."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.composition import merge_gradients
from ds_core.engine.parameter import frozen
from ds_core.engine.recompute import Recompute
from ds_core.primitives import primitives_only
from ds_core.testing.calls import Call, make_call, random_gradients
from ds_core.testing.differences import finite_differences
from ds_core.testing.failure import compare
from ds_core.testing.layer_under_test import Evaluation, LayerUnderTest
from ds_core.testing.named_tensors import outline, replace_tensor, scattered, tensors, transform

# Name of each check that has an evaluation of its own, and the method that does it.
_METHODS = {
    "finite": "finite",
    "repeatable": "repeatable",
    "autograd": "autograd",
    "finite differences": "finite_differences",
    "reuse": "reuse",
    "non-contiguous": "non_contiguous",
    "batch of one": "batch_of_one",
    "empty batch": "empty_batch",
    "None gradients": "none_gradients",
    "frozen": "frozen",
    "input_gradient": "input_gradient",
    "recompute": "recompute",
    "primitives": "primitives",
}
# The others hold in every evaluation and are looked at in passing.
CHECKS = ("trace", "structure", "dtype", "unchanged", "ownership", *_METHODS)
_NEEDED = {"trace", "structure"}  # without these nothing else can be looked at


class LayerChecks:
    """The checks of one layer with one set of inputs; the base of those of a loss."""

    def __init__(
        self,
        layer: Any,
        inputs: Sequence[Any],
        kwargs: Mapping[str, Any] | None = None,
        constants: Collection[int | str] = (),
        other_inputs: Sequence[Any] | None = None,
        batch_dim: int | Sequence[int | None] | None = 0,
        skip: Collection[str] = (),
        rtol: float = 1e-9,
        atol: float = 1e-11,
        samples: int = 16,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        allowed = [name for name in CHECKS if name not in _NEEDED]
        if not set(skip) <= set(allowed):
            raise ValueError(f"skip={sorted(skip)}: the checks that can be left out are {', '.join(allowed)}")
        self.skip, self.rtol, self.atol, self.samples = frozenset(skip), rtol, atol, samples
        self.options = dict(options or {})
        self.generator = torch.Generator().manual_seed(seed)
        self.subject = LayerUnderTest(layer, self.skip)
        self.call = make_call(layer, inputs, kwargs, constants)
        self.batch_dims = self._batch_dims(batch_dim)
        self.other = self._varied() if other_inputs is None else make_call(layer, other_inputs, kwargs, constants)
        self.gradients = self.draw(self.call, "autograd")
        if len(self.call.leaves()) == 0 and len(self.subject.trainable()) == 0:
            raise ValueError(f"{self.subject.name}: nothing to check, neither an input nor a parameter has a gradient")
        if all(gradient is None for gradient in self.gradients):
            raise ValueError(f"{self.subject.name}: nothing to check, no output is floating")
        self.base = self.handwritten("autograd", [self.call], [self.gradients])

    def run(self) -> None:
        for name, method in _METHODS.items():
            if name not in self.skip:
                getattr(self, method)()

    def finite(self) -> None:
        """Where both engines give NaN they agree, and nothing has been shown."""
        for name, tensor in (self.base.outputs | self.base.gradients).items():
            if tensor is not None and bool(tensor.isnan().any() if name.startswith("y") else ~tensor.isfinite().all()):
                count = int((~tensor.isfinite()).sum())
                self.subject.fail("finite", f"{name} is not finite in {count} of {tensor.numel()} entries", name)

    def repeatable(self) -> None:
        again = self.handwritten("repeatable", [self.call], [self.gradients])
        self.same("repeatable", again, self.base, ("second evaluation", "first evaluation"))

    def autograd(self) -> None:
        self.same("autograd", self.base, self.subject.autograd([self.call], [self.gradients]))

    def finite_differences(self) -> None:
        with self.subject.explained("finite differences"):
            handwritten = self.base.gradients
            found = finite_differences(
                self.subject, self.call, self.gradients, handwritten, self.samples, self.generator
            )
            for _, _, failure in found:
                if failure is not None:
                    raise failure

    def reuse(self) -> None:
        """f(x1) + f(x2), other inputs and gradients for the second call."""
        calls, gradients = [self.call, self.other], [self.gradients, self.draw(self.other, "reuse")]
        self.same("reuse", self.handwritten("reuse", calls, gradients), self.reference("reuse", calls, gradients))

    def non_contiguous(self) -> None:
        found = self.handwritten("non-contiguous", [self.call], [self.gradients], layout=scattered)
        if self.subject.draws(self.call):
            # PyTorch fills tensors in the order of their memory, so other numbers are drawn here than in `base`.
            expected = self.subject.autograd([self.call], [self.gradients], "non-contiguous", scattered)
            self.same("non-contiguous", found, expected)
        else:
            self.same("non-contiguous", found, self.base, ("non-contiguous", "contiguous"))
        # One tensor's layout decides that of a product with another's, so each is tried beside one that is contiguous.
        found = self.handwritten("non-contiguous", [self.call], [self.gradients], gradient_layout=scattered)
        self.same("non-contiguous", found, self.base, ("gradients non-contiguous", "contiguous"))

    def batch_of_one(self) -> None:
        self._batch(1, "batch of one")

    def empty_batch(self) -> None:
        self._batch(0, "empty batch")

    def none_gradients(self) -> None:
        """None means zeros, alone or among others; trailing ones may be left out; the entry is taken all the same."""
        count = len(self.gradients)
        nothing = self.handwritten("None gradients", [self.call], [(None,) * count])
        for name, gradient in nothing.gradients.items():
            is_parameter = name.removeprefix("gradient of ") in self.subject.parameters
            if gradient is not None and (is_parameter or bool((gradient != 0).any())):
                self.subject.fail("None gradients", f"backward(None) adds to {name}; None means zeros", name)
        for gradients, zeros in self._with_none():
            found = self.handwritten("None gradients", [self.call], [gradients])
            sides = (f"backward{outline(gradients)}", "zeros in place of None")
            self.same("None gradients", found, self.reference("None gradients", [self.call], [zeros]), sides)

    def frozen(self) -> None:
        """All parameters frozen, then each alone (some of them where there are many)."""
        trainable = self.subject.trainable()
        names = list(trainable)
        chosen = [[names[i]] for i in torch.randperm(len(names), generator=self.generator)[: self.samples]]
        for group in ([names] if names else []) + (chosen if len(names) > 1 else []):
            with frozen(trainable[name] for name in group):
                found = self.handwritten("frozen", [self.call], [self.gradients])
            left = {name: self.base.gradients[name] for name in found.gradients}
            title = f"with {group[0] if len(group) == 1 else 'all parameters'} frozen"
            self.same("frozen", found, self.base._replace(gradients=left), (title, "with none frozen"))

    def input_gradient(self) -> None:
        """backward(..., input_gradient=False): the parameters' gradients alone."""
        trainable = [f"gradient of {name}" for name in self.subject.trainable()]
        if not trainable:
            return
        found = self.handwritten("input_gradient", [self.call], [self.gradients], input_gradient=False)
        if any(True for _ in tensors(found.returned, "")):
            message = f"backward(..., input_gradient=False) returned {outline(found.returned[0])}, expected None"
            self.subject.fail("input_gradient", message)
        expected = self.base._replace(gradients={name: self.base.gradients[name] for name in trainable})
        self.same("input_gradient", found, expected, ("input_gradient=False", "input_gradient=True"))

    def recompute(self) -> None:
        """Running forward again in backward changes nothing: draws go through `drawn`, statistics move once."""
        again = LayerUnderTest(Recompute(self.subject.layer), self.skip)
        again.name = f"Recompute({self.subject.name})"
        found = again.handwritten([self.call], [self.gradients], "recompute", **self.options)
        found = found._replace(
            gradients=dict(zip(self.base.gradients, found.gradients.values(), strict=True)),
            buffers=dict(zip(self.base.buffers, found.buffers.values(), strict=True)),
        )
        self.same("recompute", found, self.base, ("recomputed", "kept"))
        with self.subject.explained("recompute"):
            moved = self.subject.draws_past_drawn(self.call)
        if moved:
            generators = " and ".join(moved)
            message = f"a second forward, given the draws of the first one, draws from the generator of {generators}"
            self.subject.fail("recompute", message)

    def primitives(self) -> None:
        self.handwritten("primitives", [self.call], [self.gradients], guard=primitives_only)

    def handwritten(
        self,
        check: str,
        calls: Sequence[Call],
        gradients: Sequence[tuple[Any, ...]],
        **options: Any,
    ) -> Evaluation:
        return self.subject.handwritten(calls, gradients, check, **self.options, **options)

    def reference(self, check: str, calls: Sequence[Call], gradients: Sequence[tuple[Any, ...]]) -> Evaluation:
        """What autograd says; where it cannot judge, what each call gives by itself."""
        if "autograd" not in self.skip:
            return self.subject.autograd(calls, gradients, check)
        apart = [self.handwritten(check, [c], [g]) for c, g in zip(calls, gradients, strict=True)]
        if len(apart) == 1:
            return apart[0]
        outputs: dict[str, Tensor] = {}
        total: dict[str, Tensor | None] = {}
        for index, one in enumerate(apart):
            suffix = f" of call {index + 1}"
            outputs |= {f"{name}{suffix}": y for name, y in one.outputs.items()}
            for name, gradient in one.gradients.items():
                if name.startswith("gradient of input "):
                    total[f"{name}{suffix}"] = gradient
                else:
                    total[name] = merge_gradients(total.get(name), gradient)
        return Evaluation(outputs, total, {})

    def draw(self, call: Call, check: str) -> tuple[Any, ...]:
        with self.subject.explained(check):
            return random_gradients(self.subject.outputs(call), self.generator)

    def same(
        self, check: str, given: Evaluation, expected: Evaluation, sides: tuple[str, str] = ("handwritten", "autograd")
    ) -> None:
        pairs: list[tuple[Mapping[str, Tensor | None], Mapping[str, Tensor | None]]] = [
            (given.outputs, expected.outputs),
            (given.gradients, expected.gradients),
            (given.buffers, expected.buffers),
        ]
        for left, right in pairs:
            for name in [*left, *(name for name in right if name not in left)]:
                values = (left.get(name), right.get(name))
                compare(self.subject.name, check, name, *values, self.rtol, self.atol, sides)

    def _with_none(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Gradients with None somewhere or the last ones left out, and the same with zeros there."""
        full = self.gradients
        zeros = transform(full, torch.zeros_like)
        indices = range(len(list(tensors(full, ""))))
        if len(indices) > 1:
            yield from ((replace_tensor(full, k, None), replace_tensor(full, k, torch.zeros_like)) for k in indices)
        for k in range(1, len(full)):
            yield full[:k], (*full[:k], *zeros[k:])
            yield (*full[:k], None, *full[k + 1 :]), (*full[:k], zeros[k], *full[k + 1 :])

    def _batch(self, size: int, check: str) -> None:
        if all(dimension is None for dimension in self.batch_dims.values()):
            return
        call = self._narrowed(size)
        gradients = self.draw(call, check)
        self.same(check, self.handwritten(check, [call], [gradients]), self.reference(check, [call], [gradients]))

    def _batch_dims(self, batch_dim: int | Sequence[int | None] | None) -> dict[str, int | None]:
        names = list(self.call.arguments)
        dims = [batch_dim] * len(names) if batch_dim is None or isinstance(batch_dim, int) else list(batch_dim)
        if len(dims) != len(names):
            raise ValueError(f"batch_dim={batch_dim}: expected one for each of {names}")
        return dict(zip(names, dims, strict=True))

    def _has_batch(self, name: str, tensor: Tensor) -> bool:
        """Whether this tensor has a batch dimension, as long as that of the first tensor that has one."""
        dimension = self.batch_dims[name]
        if dimension is None or tensor.dim() <= dimension:
            return False
        sizes = [
            leaf.shape[d]
            for argument, value in self.call.arguments.items()
            for d in [self.batch_dims[argument]]
            for _, leaf in tensors(value, argument)
            if d is not None and leaf.dim() > d
        ]
        return tensor.shape[dimension] == sizes[0]

    def _narrowed(self, size: int) -> Call:
        """The same call with the first `size` examples of the batch."""

        def narrow(name: str, tensor: Tensor) -> Tensor:
            return tensor.narrow(self.batch_dims[name] or 0, 0, size) if self._has_batch(name, tensor) else tensor

        return self.call.change(narrow)

    def _varied(self) -> Call:
        """Other inputs of the same kind: floating ones scaled by random factors below 1, integers in another order."""

        def vary(name: str, tensor: Tensor) -> Tensor:
            if tensor.is_floating_point():
                factors = torch.rand(tensor.shape, generator=self.generator, dtype=torch.float64)
                return tensor * (0.5 + 0.45 * factors).to(tensor.device)
            return tensor.flip(self.batch_dims[name] or 0) if self._has_batch(name, tensor) else tensor

        return self.call.change(vary)
