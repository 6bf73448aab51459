"""Softsign: x / (1 + |x|), any number into (-1, 1). Theory: docs/softsign.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import recording, reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.precision import to_floating


@compilable
def softsign(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x / (1 + |x|)."""
    (y,) = elementwise(_value, to_floating(x))
    return y


@compilable
def softsign_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(_value_and_slope, to_floating(x), results=2)
    return y, slope


def softsign_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `softsign_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.div(x, _denominator(x), out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    denominator = _denominator(x)
    y = torch.div(x, denominator, out=out[0])
    inverse = torch.reciprocal(denominator, out=reuse(denominator))
    return y, torch.mul(inverse, inverse, out=out[1])  # dy/dx = 1 / (1 + |x|)^2                            (2)


def _denominator(x: Tensor) -> Tensor:
    t = torch.abs(x)
    return torch.add(t, 1, out=reuse(t))


class Softsign(Module):
    """y = x / (1 + |x|), element by element (Turian et al., "Quadratic features and deep architectures", 2009).

    Twin of torch.nn.Softsign. Keeps dy/dx, as many numbers as x has and in the place of x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return softsign(input)
        y, slope = softsign_with_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else softsign_backward(dy, slope)
