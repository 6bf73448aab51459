"""The mean squared error. Theory: docs/mse.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.losses.pointwise import ErrorLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form


def plain_squared_error(x: Tensor, target: Tensor) -> Tensor:
    """x, target -> losses, all of one shape."""
    return (x - target) * (x - target)  # L = (x - t)^2                                                     (1)


def plain_squared_error_backward(dlosses: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    dx = 2 * dlosses * (x - target)  # dx = 2 dL (x - t)                                                    (2)
    return dx, -dx  # dt = -dx                                                                              (3)


# Each result takes the memory of the difference: no second tensor is made.
@fast_form(plain_squared_error)
@compilable
def squared_error(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """x, target -> losses, all of one shape."""
    error = torch.sub(x, target, out=out)
    return torch.mul(error, error, out=reuse(error))  # L = (x - t)^2                                       (1)


@fast_form(plain_squared_error_backward)
@compilable
def squared_error_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    # dx = 2 dL (x - t)                                                                                     (2)
    dx = torch.sub(x, target, out=out[0]).mul_(2 * dlosses)
    return dx, torch.neg(dx, out=out[1]) if needs[1] else None  # dt = -dx                                  (3)


class MSELoss(ErrorLoss):
    """(input - target)^2, the mean over all elements.

    Twin of torch.nn.MSELoss, the deprecated `size_average` and `reduce` left out. Keeps the input and the target.

    Args:
        reduction: "mean", "sum", or "none" for the loss of each element.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes cannot be broadcast; where they are, a UserWarning.
    """

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return squared_error(x, target, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, Tensor | None]:
        return squared_error_backward(dlosses, x, target, needs, out)
