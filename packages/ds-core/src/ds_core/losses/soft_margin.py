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


@compilable
def soft_margin(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    against = torch.neg(torch.mul(target, x))  # u
    more = log_one_more(against, out)
    # Autograd gives maximum the slope 1/2 at 0, which is right here; clamp_min would have 1.
    above = torch.maximum(against, torch.zeros((), dtype=x.dtype, device=x.device))
    return torch.add(above, more, out=reuse(more))  # L = log(1 + exp(u)) = max(u, 0) + log(1 + exp(-|u|))  (1)


@compilable
def soft_margin_backward(dlosses: Tensor, x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    # dx = -dL t / (1 + exp(t x))                                                                           (2)
    return torch.mul(-target, dlosses, out=out).div_(exponential(target * x).add_(1))


class SoftMarginLoss(PointwiseLoss):
    """log(1 + exp(-target input)), the mean over all places.

    Twin of torch.nn.SoftMarginLoss, the deprecated `size_average` and `reduce` left out. Keeps the input and the
    target, which is broadcast to the input's shape.

    Args:
        reduction: "mean", "sum", or "none" for the loss at each place.

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
