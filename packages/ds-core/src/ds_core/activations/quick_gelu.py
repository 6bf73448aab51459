"""x sigmoid(1.702 x), a quick approximation of GELU. Theory: docs/quick_gelu.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E

C = 1.702


@compilable
def quick_gelu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x sigmoid(1.702 x)."""
    (y,) = elementwise(_value, x)
    return y


@compilable
def quick_gelu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one exponential."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def quick_gelu_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `quick_gelu_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, logistic(x * (-C * LOG2_E)), out=out[0]),)  # y = x s                              (2)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    gate = logistic(x * (-C * LOG2_E))
    y = torch.mul(x, gate, out=out[0])
    change = torch.addcmul(y, y, gate, value=-1)  # x s (1 - s), which is 0 wherever |x| is large
    # dy/dx = s + C x s (1 - s)                                                                             (3)
    return y, torch.add(gate, change, alpha=C, out=out[1])


class QuickGELU(Module):
    """y = x sigmoid(1.702 x), element by element (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).

    CLIP is trained with it. Twin of `QuickGELUActivation` in transformers; torch.nn has none. Keeps dy/dx, as many
    numbers as x has and in the place of x.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x -> y of the same shape."""
        if not recording():
            return quick_gelu(x)
        y, slope = quick_gelu_with_slope(x)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else quick_gelu_backward(dy, slope)
