"""The hard swish: x times its hard sigmoid. Theory: docs/hardswish.md."""

import torch
from torch import Tensor

from ds_core.activations.hardsigmoid import gate
from ds_core.activations.hardtanh import hardtanh
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise


@compilable
def hardswish(x: Tensor) -> Tensor:
    """x -> y of the same shape."""
    (y,) = elementwise(_value, x)
    return y


@compilable
def hardswish_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def hardswish_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `hardswish_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, gate(hardtanh(x, -3, 3), out[0]), out=out[0]),)  # y = x g


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    near = torch.clamp(x, -3, 3, out=out[1])  # x where it counts: infinite ones times 0 would be no number
    g = gate(near, out[0])
    inside = torch.abs(near).lt_(3)
    slope = torch.addcmul(g, near, inside, value=1 / 6, out=out[1])  # dy/dx = g + x / 6 [-3 < x < 3]       (2)
    return torch.mul(x, g, out=out[0]), slope


class Hardswish(Module):
    """y = x min(max(x + 3, 0), 6) / 6, element by element (Howard et al., "Searching for MobileNetV3", 2019,
    section 5.2).

    Twin of torch.nn.Hardswish, `inplace` left out. Keeps dy/dx, as many numbers as x has and in the place of x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return hardswish(input)
        y, slope = hardswish_with_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else hardswish_backward(dy, slope)
