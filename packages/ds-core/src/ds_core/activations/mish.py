"""Mish: x tanh(softplus(x)), with one exponential and no logarithm. Theory: docs/mish.md."""

import torch
from torch import Tensor

from ds_core.activations.smooth import SmoothActivation
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating, wide_dtype


def plain_mish(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x tanh(log(1 + exp(x)))."""
    # Beyond 22 the gate n / (n + 2) is 1 to rounding, and later n would overflow; in float16 that is too late.
    e = torch.exp(torch.clamp_max(x.to(wide_dtype(x)), 22))
    n = e * (e + 2)
    return (x * (n / (n + 2))).to(to_floating(x).dtype)  # y = x n / (n + 2)                                (2)


def plain_mish_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    cut = torch.clamp(x.to(wide_dtype(x)), -1000, 22)  # Below -1000 e is 0 in every dtype; 4 x would overflow.
    e = torch.exp(cut)
    n = e * (e + 2)
    gate = n / (n + 2)
    slope = gate + 4 * cut * e * (1 + e) / (n + 2) ** 2  # dy/dx = n / (n + 2) + 4 x e (1 + e) / (n + 2)^2  (3)
    dtype = to_floating(x).dtype
    return (x * gate).to(dtype), slope.to(dtype)


# The fast pair takes the exponential as a power of 2, computes value and slope from it, and writes each step into
# memory that it holds already, in chunks that stay in the cache.


@fast_form(plain_mish)
@compilable
def mish(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x tanh(log(1 + exp(x)))."""
    (y,) = elementwise(_value, x)
    return y


@fast_form(plain_mish_with_slope)
@compilable
def mish_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one exponential."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    _, n = _exponential_and_numerator(_cut(x))
    gate = torch.div(n, n + 2, out=reuse(n))
    return (torch.mul(x, gate, out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    cut = _cut(x)
    e, n = _exponential_and_numerator(cut)
    denominator = n + 2
    gate = torch.div(n, denominator, out=reuse(n))
    y = torch.mul(x, gate, out=out[0])
    change = torch.addcmul(e, e, e, out=reuse(e)).div_(denominator).div_(denominator)  # e (1 + e) / (n + 2)^2
    return y, torch.addcmul(gate, cut, change, value=4, out=out[1])


def _cut(x: Tensor) -> Tensor:
    """Beyond 22 the gate is 1 and the second part of the slope nothing, in any dtype, and n is finite in all.

    Below -1000 gate and slope are 0 in any dtype, and 4 x would overflow.
    """
    return torch.clamp(x, -1000, 22)


def _exponential_and_numerator(x: Tensor) -> tuple[Tensor, Tensor]:
    """e = exp(x) and n = e (e + 2)."""
    t = x * LOG2_E
    e = torch.exp2(t, out=reuse(t))
    n = torch.add(e, 2)
    return e, torch.mul(n, e, out=reuse(n))


class Mish(SmoothActivation):
    """y = x tanh(log(1 + exp(x))), element by element (Misra, "Mish", 2019, equation 1).

    Twin of torch.nn.Mish. Keeps its slope dy/dx.
    """

    def value(self, x: Tensor) -> Tensor:
        return mish(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return mish_with_slope(x)
