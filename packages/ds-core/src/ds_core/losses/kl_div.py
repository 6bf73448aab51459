"""The Kullback-Leibler divergence of one distribution from another. Theory: docs/kl_div.md."""

import torch
from torch import Tensor

from ds_core.errors import ShapeError
from ds_core.losses.denominator import counted
from ds_core.losses.pointwise import PointwiseLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype


def plain_kl_div(x: Tensor, target: Tensor, log_target: bool = False) -> Tensor:
    """x, target -> losses, all of one shape."""
    t = torch.exp(target) if log_target else target
    # t log(t) tends to 0 with t. Infinities leave before the product: 0 times infinity is not 0.
    log_t = target if log_target else torch.log(torch.where(t == 0, 1.0, t))
    difference = torch.where(t == 0, 0.0, log_t - x)
    return t * difference  # L = t (log(t) - x), 0 where t is 0                                             (1)


def plain_kl_div_backward(
    dlosses: Tensor, x: Tensor, target: Tensor, log_target: bool = False
) -> tuple[Tensor, Tensor]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    t = torch.exp(target) if log_target else target
    log_t = target if log_target else torch.log(t)
    dx = -dlosses * t  # dx = -dL t                                                                         (2)
    dt = torch.where(t == 0, 0.0, dlosses * (log_t - x + 1))  # dt = dL (log(t) - x + 1), 0 where t is 0    (3)
    return dx, t * dt if log_target else dt  # ds = dL exp(s) (s - x + 1)                                   (4)


# Fewer tensors are made, and without the target's gradient backward needs no logarithm.
@fast_form(plain_kl_div)
@compilable
def kl_div(x: Tensor, target: Tensor, log_target: bool = False, out: Tensor | None = None) -> Tensor:
    """x, target -> losses, all of one shape."""
    t, difference = _parts(x, target, log_target)
    return torch.mul(t, difference, out=out)  # L = t (log(t) - x), 0 where t is 0                          (1)


@fast_form(plain_kl_div_backward)
@compilable
def kl_div_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    log_target: bool = False,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    t = torch.exp(target) if log_target else target
    dx = torch.neg(t, out=out[0]).mul_(dlosses)  # dx = -dL t                                               (2)
    if not needs[1]:
        return dx, None
    t, difference = _parts(x, target, log_target)
    if log_target:
        return dx, (difference + 1).mul_(t).mul_(dlosses)  # ds = dL exp(s) (s - x + 1)                     (4)
    # dt = dL (log(t) - x + 1), 0 where t is 0                                                              (3)
    return dx, (difference + 1).masked_fill_(t == 0, 0).mul_(dlosses)


def _parts(x: Tensor, target: Tensor, log_target: bool) -> tuple[Tensor, Tensor]:
    """t and log(t) - x, the latter 0 where t is 0: there neither log(t) nor an infinite x may count."""
    t = torch.exp(target) if log_target else target
    nothing = t == 0
    log = target if log_target else torch.log(t.masked_fill(nothing, 1))
    return t, (log - x).masked_fill(nothing, 0)


class KLDivLoss(PointwiseLoss):
    """target (log(target) - input), where the input holds log-probabilities; the mean over all elements.

    Kullback and Leibler, "On Information and Sufficiency", 1951, is the sum over the classes, so with a mean over the
    batch alone, reduction "batchmean". Twin of torch.nn.KLDivLoss, the deprecated `size_average` and `reduce` left
    out. Keeps the input and the target. Shapes that differ are broadcast.

    Args:
        reduction: "mean" over all elements, "batchmean" for the sum over all by the length of the input's first
            dimension, "sum", or "none" for the loss of each element.
        log_target: whether the target holds log-probabilities too.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes cannot be broadcast.
    """

    reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return kl_div(x, target, self.log_target, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, Tensor | None]:
        return kl_div_backward(dlosses, x, target, self.log_target, needs, out)

    def denominator(self, target: Tensor) -> Tensor | None:
        """What a mean divides by: elements of the target, or with "batchmean" its rows; None for "sum" and "none"."""
        return counted(_rows(target), target) if self.reduction == "batchmean" else super().denominator(target)

    def divided(self, input: Tensor, target: Tensor, x: Tensor, denominator: Tensor | None) -> tuple[str, Tensor | int]:
        if self.reduction != "batchmean":
            return super().divided(input, target, x, denominator)
        if denominator is None:
            return "mean", _rows(input)  # sum L / N                                                        (5)
        if _rows(input) != _rows(target):
            raise ShapeError(
                f"{self!r}: given input {tuple(input.shape)} and target {tuple(target.shape)}, expected as many rows: "
                "where several micro-batches or processes make one batch, they are counted by their targets"
            )
        return "mean", denominator.to(wide_dtype(x))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, log_target={self.log_target}"


def _rows(x: Tensor) -> int:
    return x.shape[0] if x.dim() > 0 else 1
