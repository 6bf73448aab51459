"""The mean absolute error. Theory: docs/l1.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.losses.pointwise import ErrorLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out


@compilable
def absolute_error(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """x, target -> losses, all of one shape."""
    error = torch.sub(x, target, out=out)
    return torch.abs(error, out=reuse(error))  # L = |x - t|                                                (1)


@compilable
def absolute_error_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    dx = (
        torch.sub(x, target, out=out[0]).sign_().mul_(dlosses)
    )  # dx = dL sign(x - t)                                          (2)
    return dx, torch.neg(dx, out=out[1]) if needs[1] else None  # dt = -dx                         (3)


class L1Loss(ErrorLoss):
    """|input - target|, the mean over all places.

    Twin of torch.nn.L1Loss, the deprecated `size_average` and `reduce` left out. Keeps the input and the target.

    Args:
        reduction: "mean", "sum", or "none" for the loss at each place.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes cannot be broadcast; where they are, a UserWarning.
    """

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return absolute_error(x, target, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, Tensor | None]:
        return absolute_error_backward(dlosses, x, target, needs, out)
