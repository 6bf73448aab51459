"""Mish: x tanh(softplus(x)), with one exponential and no logarithm. Theory: docs/mish.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import recording, reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E


@compilable
def mish(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x tanh(log(1 + exp(x)))."""
    (y,) = elementwise(_value, x)
    return y


@compilable
def mish_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one exponential."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def mish_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `mish_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    _, n = _exponential_and_numerator(_cut(x))
    gate = torch.div(n, n + 2, out=reuse(n))
    return (torch.mul(x, gate, out=out[0]),)  # y = x n / (n + 2)                                           (2)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    cut = _cut(x)
    e, n = _exponential_and_numerator(cut)
    denominator = n + 2
    gate = torch.div(n, denominator, out=reuse(n))
    y = torch.mul(x, gate, out=out[0])
    change = torch.addcmul(e, e, e, out=reuse(e)).div_(denominator).div_(denominator)  # e (1 + e) / (n + 2)^2
    # dy/dx = n / (n + 2) + 4 x e (1 + e) / (n + 2)^2                                                       (3)
    return y, torch.addcmul(gate, cut, change, value=4, out=out[1])


def _cut(x: Tensor) -> Tensor:
    """Beyond 22 the gate is 1 and the second part of the slope nothing, in any dtype, and n is finite in all."""
    return torch.clamp_max(x, 22)


def _exponential_and_numerator(x: Tensor) -> tuple[Tensor, Tensor]:
    """e = exp(x) and n = e (e + 2)."""
    t = x * LOG2_E
    e = torch.exp2(t, out=reuse(t))
    n = torch.add(e, 2)
    return e, torch.mul(n, e, out=reuse(n))


class Mish(Module):
    """y = x tanh(log(1 + exp(x))), element by element (Misra, "Mish", 2019, equation 1).

    Twin of torch.nn.Mish. Keeps dy/dx, as many numbers as x has and in the place of x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return mish(input)
        y, slope = mish_with_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else mish_backward(dy, slope)
