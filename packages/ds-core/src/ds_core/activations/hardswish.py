"""The hard swish: x times its hard sigmoid. Theory: docs/hardswish.md."""

import torch
from torch import Tensor

from ds_core.activations.hardsigmoid import gate, plain_hardsigmoid
from ds_core.activations.hardtanh import hardtanh
from ds_core.activations.smooth import SmoothActivation
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form


def plain_hardswish(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x g, g the hard sigmoid of x."""
    return x * plain_hardsigmoid(x)


def plain_hardswish_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    g = plain_hardsigmoid(x)
    return x * g, g + torch.where(torch.abs(x) < 3, x / 6, 0)  # dy/dx = g + x / 6 [-3 < x < 3]             (2)


# The fast pair cuts x off once for value and slope, multiplies by numbers 0 or 1 instead of choosing, which is slow on
# a CPU, and works in chunks that stay in the cache.


@fast_form(plain_hardswish)
@compilable
def hardswish(x: Tensor) -> Tensor:
    """x -> y of the same shape."""
    (y,) = elementwise(_value, x)
    return y


@fast_form(plain_hardswish_with_slope)
@compilable
def hardswish_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, gate(hardtanh(x, -3, 3), out[0]), out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    near = torch.clamp(x, -3, 3, out=out[1])  # x where it counts: an infinite x times 0 would be NaN
    g = gate(near, out[0])
    inside = torch.abs(near).lt_(3)
    slope = torch.addcmul(g, near, inside, value=1 / 6, out=out[1])
    return torch.mul(x, g, out=out[0]), slope


class Hardswish(SmoothActivation):
    """y = x min(max(x + 3, 0), 6) / 6, element by element (Howard et al., "Searching for MobileNetV3", 2019,
    section 5.2).

    Twin of torch.nn.Hardswish, `inplace` left out. Keeps its slope dy/dx, which jumps at -3 and 3.
    """

    def value(self, x: Tensor) -> Tensor:
        return hardswish(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return hardswish_with_slope(x)
