"""Losses whose value for each element depends on its own prediction and target alone. Theory: docs/pointwise.md."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ds_core.engine.guard import refuse_gradient
from ds_core.engine.module import Module
from ds_core.errors import ShapeError, check_floating
from ds_core.losses.denominator import counted, per_element
from ds_core.losses.reduction import REDUCTIONS, check_reduction, reduce_backward, reduce_elementwise
from ds_core.speed.elementwise import elementwise
from ds_core.speed.precision import wide_dtype, widened


def common_shape(loss: object, **tensors: Tensor) -> torch.Size:
    """The shape that all are broadcast to.

    Raises:
        ShapeError: naming each shape, where there is none.
    """
    shapes = [tensor.shape for tensor in tensors.values()]
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    try:
        return torch.Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
    except RuntimeError:
        given = " and ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ShapeError(f"{loss!r}: given {given}, expected shapes that are equal or can be broadcast") from None


def common_dtype(first: Tensor, second: Tensor) -> torch.dtype:
    """The dtype of their sum."""
    if first.dtype == second.dtype:
        return first.dtype
    return (first.new_empty(0) + second.new_empty(0)).dtype  # torch.promote_types is no primitive operation


def summed_to(gradient: Tensor, shape: torch.Size) -> Tensor:
    """The gradient of what was broadcast from `shape`: summed over all elements that one number went to."""
    added = gradient.dim() - len(shape)
    repeated = [d for d, n in enumerate(gradient.shape) if d < added or (n != 1 and shape[d - added] == 1)]
    # dx_i = sum of dx'_j over the elements j that x_i went to                                               (1)
    return gradient.sum(repeated, keepdim=True).view(shape) if repeated else gradient


class PointwiseLoss(Module):
    """The base of such losses: shapes, dtypes, reduction and what is kept; a subclass adds the formulas.

    Keeps the input, the target and the factors themselves, and no number more. Shapes that differ are broadcast, and
    the gradient summed back to the input's.

    Args:
        reduction: "mean" over all elements, "sum", or "none" for the loss of each.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes do not fit.
    """

    # Whether the target is a label, which has no gradient and no say in the dtype.
    labels: ClassVar[bool] = False
    reductions: ClassVar[Sequence[str]] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check_reduction(type(self).__name__, reduction, self.reductions)

    def losses(self, *args: Any, **kwargs: Any) -> Tensor:
        """x, target of one shape, and the `factors` by name -> the loss of each element, best in `out` if not None."""
        raise NotImplementedError(f"{type(self).__name__} has no losses")

    def gradients(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """dlosses, x, target, the `factors` by name, needs -> dx and, where `needs[1]`, dtarget, best in `out`."""
        raise NotImplementedError(f"{type(self).__name__} has no gradients")

    def factors(self) -> dict[str, Tensor | None]:
        """Further tensors of the formulas, which are broadcast to the shape of the losses, by name."""
        return {}

    def check(self, input: Tensor, target: Tensor) -> None:
        """Raise or warn where these cannot be meant."""

    def denominator(self, target: Tensor) -> Tensor | None:
        """What "mean" divides by: the elements of the target, a tensor () of float64; None for other reductions."""
        return counted(target.numel(), target) if self.reduction == "mean" else None

    def divided(self, input: Tensor, target: Tensor, x: Tensor, denominator: Tensor | None) -> tuple[str, Tensor | int]:
        """Which of "mean", "sum" and "none" it is, and what "mean" divides by; `x` has the losses' shape and dtype."""
        if denominator is None or self.reduction != "mean":
            return self.reduction, x.numel()
        return "mean", per_element(self, denominator, x.shape, target.shape).to(wide_dtype(x))

    def forward(self, input: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """Predictions and targets of one shape -> a scalar, with reduction "none" that shape.

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        if not self._dtype(input, target).is_floating_point:
            check_floating(self, input=input)
        self.check(input, target)
        factors = self.factors()
        names, tensors = self._fitted(input, target, factors)
        self.save(input, target, denominator, factors)
        reduction, count = self.divided(input, target, tensors[0], denominator)
        loss = reduce_elementwise(_by_name(self.losses, names), tensors, reduction, count)
        return loss.to(self._dtype(input, target))

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Any:
        """grad of the shape of the loss, None for 1 -> dinput; with `target_gradient` (dinput, dtarget).

        Raises:
            ValueError: `target_gradient` where the target has none: labels, or integers.
        """
        input, target, denominator, factors = self.saved()
        if target_gradient and (self.labels or not target.is_floating_point()):
            reason = "labels have" if self.labels else f"a target of {target.dtype} has"
            raise ValueError(f"{self!r}: target_gradient=True, but {reason} no gradient")
        if not target_gradient:
            refuse_gradient(self, target=target)
        names, tensors = self._fitted(input, target, factors)
        fixed: dict[str, Any] = {"needs": (True, target_gradient)}
        reduction, count = self.divided(input, target, tensors[0], denominator)
        dlosses = reduce_backward(grad, reduction, count, widened(tensors[0]))
        if dlosses.dim() == 0:
            fixed["dlosses"] = dlosses
        else:
            names, tensors = [*names, "dlosses"], [*tensors, dlosses]
        gradients = _by_name(self.gradients, names, fixed)
        results = 1 + target_gradient
        found = elementwise(
            lambda *given: gradients(*given[:-1], out=(*given[-1], None)[:2])[:results], *tensors, results=results
        )
        dinput = summed_to(found[0], input.shape).to(input.dtype)
        return (dinput, summed_to(found[1], target.shape).to(target.dtype)) if target_gradient else dinput

    def _dtype(self, input: Tensor, target: Tensor) -> torch.dtype:
        return input.dtype if self.labels else common_dtype(input, target)

    def _fitted(
        self, input: Tensor, target: Tensor, factors: dict[str, Tensor | None]
    ) -> tuple[list[str], list[Tensor]]:
        """x, target and the factors that are there in one shape and dtype, and their names."""
        shape, dtype = common_shape(self, input=input, target=target), self._dtype(input, target)
        named = {"x": input.to(dtype), "target": target.to(dtype)}
        if input.shape != target.shape:
            # Gradients are summed before they are rounded.
            named = {name: widened(tensor).expand(shape) for name, tensor in named.items()}
        for name, factor in factors.items():
            if factor is not None:
                if common_shape(self, target=target, **{name: factor}) != shape:
                    raise ShapeError(f"{self!r}: given {name} {tuple(factor.shape)}, larger than target {tuple(shape)}")
                named[name] = factor.to(named["x"].dtype).expand(shape)
        return list(named), list(named.values())

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class ErrorLoss(PointwiseLoss):
    """The base of losses of the error input - target, which warn where one of the two is broadcast."""

    def check(self, input: Tensor, target: Tensor) -> None:
        if input.shape != target.shape and not torch.compiler.is_compiling():
            shape = tuple(common_shape(self, input=input, target=target))
            warnings.warn(
                f"{self!r}: given input {tuple(input.shape)} and target {tuple(target.shape)}, which are broadcast to "
                f"{shape}; that is seldom meant: give both one shape",
                stacklevel=5,
            )


def _by_name(function: Callable[..., Any], names: list[str], fixed: dict[str, Any] | None = None) -> Callable[..., Any]:
    """`function` called with its arguments by name, from values in the order of `names`."""
    return lambda *values, out: function(**dict(zip(names, values, strict=True)), **(fixed or {}), out=out)
