"""Of two scores the one named by the target is to lead by a margin. Theory: docs/margin_ranking.md."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import reuse
from ds_core.errors import ShapeError, check_floating
from ds_core.losses.denominator import counted, per_element
from ds_core.losses.pointwise import common_dtype, common_shape, summed_to
from ds_core.losses.reduction import check_reduction, reduce_backward, reduce_elementwise
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype, widened


def plain_margin_ranking(x1: Tensor, x2: Tensor, target: Tensor, margin: float) -> Tensor:
    """x1, x2, target (1 or -1) -> losses, all of one shape."""
    return torch.clamp_min(margin - target * (x1 - x2), 0)  # L = max(margin - t (x1 - x2), 0)              (1)


def plain_margin_ranking_backward(
    dlosses: Tensor, x1: Tensor, x2: Tensor, target: Tensor, margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dlosses (of their shape or one for all), x1, x2, target -> dx1, dx2, dtarget."""
    lead = x1 - x2
    lacking = margin - target * lead >= 0
    dx1 = torch.where(lacking, -dlosses * target, 0.0)  # dx1 = -dL t [margin >= t (x1 - x2)]               (2)
    dx2 = torch.where(lacking, dlosses * target, 0.0)  # dx2 = dL t [margin >= t (x1 - x2)]                 (3)
    dtarget = torch.where(lacking, -dlosses * lead, 0.0)  # dt = -dL (x1 - x2) [margin >= t (x1 - x2)]      (4)
    return dx1, dx2, dtarget


# All steps are taken in the memory of the results.
@fast_form(plain_margin_ranking)
@compilable
def margin_ranking(x1: Tensor, x2: Tensor, target: Tensor, margin: float, out: Tensor | None = None) -> Tensor:
    """x1, x2, target (1 or -1) -> losses, all of one shape."""
    lead = torch.sub(x1, x2, out=out)
    lead = torch.mul(lead, target, out=reuse(lead))
    lacking = torch.sub(torch.full((), margin, dtype=x1.dtype, device=x1.device), lead, out=reuse(lead))
    return torch.clamp_min(lacking, 0, out=reuse(lacking))  # L = max(margin - t (x1 - x2), 0)              (1)


@fast_form(plain_margin_ranking_backward)
@compilable
def margin_ranking_backward(
    dlosses: Tensor,
    x1: Tensor,
    x2: Tensor,
    target: Tensor,
    margin: float,
    needs: tuple[bool, bool, bool] = (True, True, True),
    out: Out = (None, None, None),
) -> tuple[Tensor, Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x1, x2, target -> dx1, dx2, dtarget."""
    lead = torch.sub(x1, x2, out=out[2])
    done = (margin - target * lead >= 0).logical_not_()  # as in PyTorch, NaN counts as done
    # dx2 = dL t [margin >= t (x1 - x2)]                                                                    (3)
    dx2 = torch.mul(target, dlosses, out=out[1]).masked_fill_(done, 0)
    dx1 = torch.neg(dx2, out=out[0])  # dx1 = -dx2                                                          (2)
    # dt = -dL (x1 - x2) [margin >= t (x1 - x2)]                                                            (4)
    return dx1, dx2, lead.mul_(-dlosses).masked_fill_(done, 0) if needs[2] else None


class MarginRankingLoss(Module):
    """max(0, margin - target (input1 - input2)), the mean over all elements.

    Twin of torch.nn.MarginRankingLoss, the deprecated `size_average` and `reduce` left out. Keeps both inputs and the
    target. Shapes of as many dimensions are broadcast.

    Args:
        margin: by how much input1 is to lead where the target is 1, and input2 where it is -1.
        reduction: "mean", "sum", or "none" for the loss of each element.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes cannot be broadcast or differ in the number of dimensions.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self.reduction = check_reduction("MarginRankingLoss", reduction)
        self.margin = margin

    def denominator(self, target: Tensor) -> Tensor | None:
        """What "mean" divides by: the elements of the target, a tensor () of float64; None for other reductions."""
        return counted(target.numel(), target) if self.reduction == "mean" else None

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """Two scores, and 1 or -1 for which is to lead -> a scalar, with reduction "none" their shape.

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        check_floating(self, input1=input1, input2=input2)
        shapes = [tuple(tensor.shape) for tensor in (input1, input2, target)]
        if len({len(shape) for shape in shapes}) > 1:
            raise ShapeError(
                f"{self!r}: given input1 {shapes[0]}, input2 {shapes[1]} and target {shapes[2]}, expected as many "
                "dimensions in each"
            )
        x1, x2, t = self._fitted(input1, input2, target)
        self.save(input1, input2, target, denominator)
        count = self._count(x1, target, denominator)
        loss = reduce_elementwise(partial(margin_ranking, margin=self.margin), (x1, x2, t), self.reduction, count)
        return loss.to(common_dtype(input1, input2))

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Any:
        """grad of the shape of the loss, None for 1 -> (dinput1, dinput2); with `target_gradient` dtarget too.

        Raises:
            ValueError: `target_gradient` where the target is of integers, which have no gradient.
        """
        *given, denominator = self.saved()
        if target_gradient and not given[2].is_floating_point():
            raise ValueError(f"{self!r}: target_gradient=True, but a target of {given[2].dtype} has no gradient")
        tensors = self._fitted(*given)
        count = self._count(tensors[0], given[2], denominator)
        dlosses = reduce_backward(grad, self.reduction, count, widened(tensors[0]))

        needs, results = (True, True, target_gradient), 2 + target_gradient

        def gradients(x1: Tensor, x2: Tensor, target: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
            each, out = rest[0] if len(rest) > 1 else dlosses, (*rest[-1], None)[:3]
            return margin_ranking_backward(each, x1, x2, target, self.margin, needs, out)[:results]

        each = [dlosses] if dlosses.dim() > 0 else []
        found = elementwise(gradients, *tensors, *each, results=results)  # type: ignore[arg-type]
        summed = [summed_to(d, tensor.shape).to(tensor.dtype) for d, tensor in zip(found, given, strict=False)]
        return tuple(summed)

    def _count(self, x: Tensor, target: Tensor, denominator: Tensor | None) -> Tensor | int:
        if denominator is None:
            return x.numel()
        return per_element(self, denominator, x.shape, target.shape).to(wide_dtype(x))

    def _fitted(self, input1: Tensor, input2: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All in one shape and dtype."""
        shape = common_shape(self, input1=input1, input2=input2, target=target)
        dtype = common_dtype(input1, input2)
        x1, x2, t = input1.to(dtype), input2.to(dtype), target.to(dtype)
        if not input1.shape == input2.shape == target.shape:
            # Gradients are summed before they are rounded.
            x1, x2, t = (widened(tensor).expand(shape) for tensor in (x1, x2, t))
        return x1, x2, t

    def extra_repr(self) -> str:
        return f"margin={self.margin}, reduction={self.reduction!r}"
