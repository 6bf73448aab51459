"""The loss whose descent, example by example, is Rosenblatt's learning rule. Theory: docs/perceptron.md."""

import torch
from torch import Tensor

from ds_core.losses.pointwise import PointwiseLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form


def plain_perceptron_loss(x: Tensor, target: Tensor) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    return torch.clamp_min(-target * x, 0)  # L = max(-t x, 0)                                              (1)


def plain_perceptron_loss_backward(dlosses: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    wrong = (target * x <= 0).to(x.dtype)
    return -dlosses * target * wrong  # dx = -dL t [t x <= 0]                                               (2)


# The same, written into memory that the caller may give.
@fast_form(plain_perceptron_loss)
@compilable
def perceptron_loss(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    return torch.clamp_min(-target * x, 0, out=out)  # L = max(-t x, 0)                                     (1)


@fast_form(plain_perceptron_loss_backward)
@compilable
def perceptron_loss_backward(dlosses: Tensor, x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    wrong = (target * x <= 0).to(x.dtype)
    return torch.mul(wrong.mul_(target), -dlosses, out=out)  # dx = -dL t [t x <= 0]                         (2)


class PerceptronLoss(PointwiseLoss):
    """max(-target * input, 0) for targets 1 and -1; the mean over all elements.

    One step of `SGD(lr=1)` on one example adds target * x to the weights where it is on the wrong side, or on the
    boundary, and does nothing otherwise: the rule of Rosenblatt, "The Perceptron", 1958. torch.nn has no such loss; its
    descent is that of `sklearn.linear_model.Perceptron`. Keeps the input and the target.

    Args:
        reduction: "mean", "sum", or "none" for the loss of each element.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes cannot be broadcast.
    """

    labels = True

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return perceptron_loss(x, target, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, None]:
        return perceptron_loss_backward(dlosses, x, target, out[0]), None
