"""The sigmoid linear unit x sigmoid(x), also called swish. Theory: docs/silu.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.activations.smooth import SmoothActivation
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form


def plain_silu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x sigmoid(x)."""
    return x * plain_sigmoid(x)  # y = x s                                                                  (2)


def plain_silu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    s = plain_sigmoid(x)
    y = x * s  # (2)
    return y, s + y * (1 - s)  # dy/dx = s + x s (1 - s)                                                    (3)


# The fast pair takes the exponential as a power of 2, computes the slope in one pass from what the value needed, and
# works in chunks that stay in the cache.


@fast_form(plain_silu)
@compilable
def silu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x sigmoid(x)."""
    (y,) = elementwise(_value, x)
    return y


@fast_form(plain_silu_with_slope)
@compilable
def silu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one exponential."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, logistic(x * -LOG2_E), out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    gate = logistic(x * -LOG2_E)
    y = torch.mul(x, gate, out=out[0])
    one = torch.ones((), dtype=x.dtype, device=x.device)
    return y, torch.lerp(y, one, gate, out=out[1])  # y + s (1 - y), from y to 1


class SiLU(SmoothActivation):
    """y = x sigmoid(x), element by element (Elfwing et al., "Sigmoid-Weighted Linear Units", 2017, equation 7).

    Twin of torch.nn.SiLU. Keeps its slope dy/dx.
    """

    def value(self, x: Tensor) -> Tensor:
        return silu(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return silu_with_slope(x)
