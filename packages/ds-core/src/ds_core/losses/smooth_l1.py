"""The absolute error with its corner at 0 rounded off. Theory: docs/smooth_l1.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.losses.l1 import absolute_error, absolute_error_backward
from ds_core.losses.pointwise import ErrorLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form


def plain_smooth_l1(x: Tensor, target: Tensor, beta: float) -> Tensor:
    """x, target -> losses, all of one shape."""
    error = torch.abs(x - target)  # |d|
    if beta == 0:
        return error
    capped = torch.clamp_max(error, beta)  # c = min(|d|, beta)
    return capped / beta * (error - capped / 2)  # L = c / beta (|d| - c / 2)                               (1)


def plain_smooth_l1_backward(dlosses: Tensor, x: Tensor, target: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    d = x - target
    # dx = dL max(-beta, min(d, beta)) / beta                                                               (2)
    dx = dlosses * (torch.clamp(d, -beta, beta) / beta if beta > 0 else torch.sign(d))
    return dx, -dx  # dt = -dx                                                                              (3)


# All steps are taken in the memory of two tensors forward, and of one backward.
@fast_form(plain_smooth_l1)
@compilable
def smooth_l1(x: Tensor, target: Tensor, beta: float, out: Tensor | None = None) -> Tensor:
    """x, target -> losses, all of one shape."""
    if beta == 0:
        return absolute_error(x, target, out)
    error = torch.sub(x, target, out=out)
    size = torch.abs(error, out=reuse(error))
    capped = torch.clamp_max(size, beta)
    # L = c / beta (|d| - c / 2) with d = x - t and c = min(|d|, beta)                                      (1)
    excess = torch.sub(size, capped, alpha=0.5, out=reuse(size))
    return torch.mul(torch.div(capped, beta, out=reuse(capped)), excess, out=reuse(excess))


@fast_form(plain_smooth_l1_backward)
@compilable
def smooth_l1_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    beta: float,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    if beta == 0:
        return absolute_error_backward(dlosses, x, target, needs, out)
    # dx = dL max(-beta, min(d, beta)) / beta                                                               (2)
    dx = torch.sub(x, target, out=out[0]).clamp_(-beta, beta).div_(beta).mul_(dlosses)
    return dx, torch.neg(dx, out=out[1]) if needs[1] else None  # dt = -dx                                  (3)


class SmoothL1Loss(ErrorLoss):
    """|input - target| - beta / 2, below an error of `beta` a parabola that meets it; the mean over all elements.

    Girshick, "Fast R-CNN", 2015, equation 3, where beta is 1. Twin of torch.nn.SmoothL1Loss, the deprecated
    `size_average` and `reduce` left out. Keeps the input and the target.

    Args:
        reduction: "mean", "sum", or "none" for the loss of each element.
        beta: the error where the parabola ends; 0 for none, which is L1Loss.

    Raises:
        ValueError: an unknown reduction, or `beta` below 0.
        ShapeError: from `forward`, where the shapes cannot be broadcast; where they are, a UserWarning.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        if not beta >= 0:
            raise ValueError(f"SmoothL1Loss: given beta={beta}, expected a number of at least 0")
        self.beta = beta

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return smooth_l1(x, target, self.beta, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, Tensor | None]:
        return smooth_l1_backward(dlosses, x, target, self.beta, needs, out)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, beta={self.beta}"
