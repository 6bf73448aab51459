"""The Huber loss: squared for small errors, absolute for large ones. Theory: docs/huber.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.losses.pointwise import ErrorLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form


def plain_huber(x: Tensor, target: Tensor, delta: float) -> Tensor:
    """x, target -> losses, all of one shape."""
    error = torch.abs(x - target)  # |d|
    capped = torch.clamp_max(error, delta)  # c = min(|d|, delta)
    return capped * (error - capped / 2)  # L = c (|d| - c / 2)                                             (1)


def plain_huber_backward(dlosses: Tensor, x: Tensor, target: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    dx = dlosses * torch.clamp(x - target, -delta, delta)  # dx = dL max(-delta, min(d, delta))             (2)
    return dx, -dx  # dt = -dx                                                                              (3)


# All steps are taken in the memory of two tensors forward, and of one backward.
@fast_form(plain_huber)
@compilable
def huber(x: Tensor, target: Tensor, delta: float, out: Tensor | None = None) -> Tensor:
    """x, target -> losses, all of one shape."""
    error = torch.sub(x, target, out=out)
    size = torch.abs(error, out=reuse(error))
    capped = torch.clamp_max(size, delta)
    # L = c (|d| - c / 2) with d = x - t and c = min(|d|, delta)                                            (1)
    return torch.mul(torch.sub(size, capped, alpha=0.5, out=reuse(size)), capped, out=reuse(size))


@fast_form(plain_huber_backward)
@compilable
def huber_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    delta: float,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    # dx = dL max(-delta, min(d, delta))                                                                    (2)
    dx = torch.sub(x, target, out=out[0]).clamp_(-delta, delta).mul_(dlosses)
    return dx, torch.neg(dx, out=out[1]) if needs[1] else None  # dt = -dx                                  (3)


class HuberLoss(ErrorLoss):
    """(input - target)^2 / 2 up to an error of `delta`, a straight line above; the mean over all elements.

    Huber, "Robust Estimation of a Location Parameter", 1964. Twin of torch.nn.HuberLoss. Keeps the input and
    the target.

    Args:
        reduction: "mean", "sum", or "none" for the loss of each element.
        delta: the error where the parabola ends, above 0.

    Raises:
        ValueError: an unknown reduction, or `delta` not above 0.
        TypeError: `delta` is no number.
        ShapeError: from `forward`, where the shapes cannot be broadcast; where they are, a UserWarning.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        if not isinstance(delta, (float, int)):
            raise TypeError(f"HuberLoss: given delta={delta!r}, expected a number")
        if not delta > 0:
            raise ValueError(f"HuberLoss: given delta={delta}, expected a number above 0")
        self.delta = delta

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return huber(x, target, self.delta, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, Tensor | None]:
        return huber_backward(dlosses, x, target, self.delta, needs, out)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, delta={self.delta}"
