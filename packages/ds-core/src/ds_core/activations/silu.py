"""The sigmoid linear unit x sigmoid(x), also called swish. Theory: docs/silu.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E


@compilable
def silu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x sigmoid(x)."""
    (y,) = elementwise(_value, x)
    return y


@compilable
def silu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one exponential."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def silu_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `silu_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, logistic(x * -LOG2_E), out=out[0]),)  # y = x s                                    (2)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    gate = logistic(x * -LOG2_E)
    y = torch.mul(x, gate, out=out[0])
    one = torch.ones((), dtype=x.dtype, device=x.device)
    # dy/dx = y + s (1 - y)                                                                                 (3)
    return y, torch.lerp(y, one, gate, out=out[1])


class SiLU(Module):
    """y = x sigmoid(x), element by element (Elfwing et al., "Sigmoid-Weighted Linear Units", 2017, equation 7).

    Twin of torch.nn.SiLU. Keeps dy/dx, as many numbers as x has and in the place of x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return silu(input)
        y, slope = silu_with_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else silu_backward(dy, slope)
