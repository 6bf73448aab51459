"""The logistic loss of labels 1 and -1. Theory: docs/soft_margin.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.errors import ShapeError
from ds_core.losses.bce_with_logits import log_one_more
from ds_core.losses.pointwise import PointwiseLoss, common_shape
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.exponential import exponential
from ds_core.speed.plain import fast_form


def plain_soft_margin(x: Tensor, target: Tensor) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    u = -target * x
    # log(1 + exp(u)) overflows, so the larger of its terms comes out.
    # L = max(u, 0) + log(1 + exp(-|u|))                                                                    (1)
    return torch.maximum(u, torch.zeros_like(u)) + torch.log1p(torch.exp(-torch.abs(u)))


def plain_soft_margin_backward(dlosses: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    return -dlosses * target / (1 + torch.exp(target * x))  # dx = -dL t / (1 + exp(t x))                   (2)


# Powers of 2 are faster than exp, and all steps are taken in the memory of few tensors.
@fast_form(plain_soft_margin)
@compilable
def soft_margin(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    against = torch.neg(torch.mul(target, x))  # u
    more = log_one_more(against, out)
    # Autograd gives maximum the slope 1/2 at 0, which is right here; clamp_min would have 1.
    above = torch.maximum(against, torch.zeros((), dtype=x.dtype, device=x.device))
    return torch.add(above, more, out=reuse(more))  # L = log(1 + exp(u)) = max(u, 0) + log(1 + exp(-|u|))  (1)


@fast_form(plain_soft_margin_backward)
@compilable
def soft_margin_backward(dlosses: Tensor, x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    # dx = -dL t / (1 + exp(t x))                                                                           (2)
    return torch.mul(-target, dlosses, out=out).div_(exponential(target * x).add_(1))


class SoftMarginLoss(PointwiseLoss):
    """log(1 + exp(-target input)), the mean over all elements.

    Twin of torch.nn.SoftMarginLoss, the deprecated `size_average` and `reduce` left out. Keeps the input and the
    target, which is broadcast to the input's shape.

    Args:
        reduction: "mean", "sum", or "none" for the loss of each element.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the target cannot be broadcast to the shape of the input.
    """

    labels = True

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return soft_margin(x, target, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, None]:
        return soft_margin_backward(dlosses, x, target, out[0]), None

    def check(self, input: Tensor, target: Tensor) -> None:
        if common_shape(self, input=input, target=target) != input.shape:
            raise ShapeError(
                f"{self!r}: given input {tuple(input.shape)} and target {tuple(target.shape)}, expected a target "
                "of the input's shape, or one that is broadcast to it"
            )
