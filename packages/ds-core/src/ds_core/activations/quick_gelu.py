"""x sigmoid(1.702 x), a quick approximation of GELU. Theory: docs/quick_gelu.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.activations.smooth import SmoothActivation
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form

C = 1.702


def plain_quick_gelu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x sigmoid(1.702 x)."""
    return x * plain_sigmoid(C * x)  # y = x s, s = sigmoid(C x)                                            (2)


def plain_quick_gelu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    s = plain_sigmoid(C * x)
    y = x * s  # (2)
    return y, s + C * (y - y * s)  # dy/dx = s + C (y - y s)                                                (3)


# The fast pair folds C into the conversion to a power of 2, computes value and slope from one exponential, and works in
# chunks that stay in the cache.


@fast_form(plain_quick_gelu)
@compilable
def quick_gelu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x sigmoid(1.702 x)."""
    (y,) = elementwise(_value, x)
    return y


@fast_form(plain_quick_gelu_with_slope)
@compilable
def quick_gelu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one exponential."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, logistic(x * (-C * LOG2_E)), out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    gate = logistic(x * (-C * LOG2_E))
    y = torch.mul(x, gate, out=out[0])
    change = torch.addcmul(y, y, gate, value=-1)  # x s (1 - s), which is 0 wherever |x| is large
    return y, torch.add(gate, change, alpha=C, out=out[1])


class QuickGELU(SmoothActivation):
    """y = x sigmoid(1.702 x), element by element (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016).

    CLIP is trained with it. Twin of `QuickGELUActivation` in transformers; torch.nn has none. Keeps its slope dy/dx.
    """

    def value(self, x: Tensor) -> Tensor:
        return quick_gelu(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return quick_gelu_with_slope(x)
