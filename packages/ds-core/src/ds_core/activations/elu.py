"""The exponential linear unit: x where it is positive, a (exp(x) - 1) elsewhere. Theory: docs/elu.md.

With a scale and another pace of the exponential these are the functions of SELU and CELU too.
"""

from functools import partial

import torch
from torch import Tensor

from ds_core.activations.relu import relu
from ds_core.activations.smooth import SmoothActivation
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import exponential
from ds_core.speed.plain import fast_form


def plain_elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """x -> y of the same shape: scale x where x > 0, scale alpha (exp(input_scale x) - 1) elsewhere."""
    t = input_scale * torch.clamp_max(x, 0)
    return scale * (relu(x) + alpha * torch.expm1(t))  # y = s (max(x, 0) + alpha (exp(t) - 1))             (1)


def plain_elu_with_slope(
    x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    below = scale * alpha * input_scale * torch.exp(input_scale * torch.clamp_max(x, 0))
    slope = torch.where(x > 0, scale, below)  # dy/dx = s [x > 0] + s alpha k exp(t) [x <= 0]               (3)
    return plain_elu(x, alpha, scale, input_scale), slope


# The fast pair replaces the choice between two slopes by sums and products, which are several times faster on a CPU,
# takes the slope's exponential as a power of 2, and works in chunks that stay in the cache.


@fast_form(plain_elu)
@compilable
def elu(x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Tensor:
    """x -> y of the same shape: scale x where x > 0, scale alpha (exp(input_scale x) - 1) elsewhere."""
    (y,) = elementwise(partial(_value, alpha=alpha, scale=scale, input_scale=input_scale), x)
    return y


@fast_form(plain_elu_with_slope)
@compilable
def elu_with_slope(
    x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    chain = partial(_value_and_slope, alpha=alpha, scale=scale, input_scale=input_scale)
    y, slope = elementwise(chain, x, results=2)
    return y, slope


def _value(x: Tensor, out: Out, alpha: float, scale: float, input_scale: float) -> tuple[Tensor]:
    t = _exponent(x, input_scale, out[0])
    return (_sum_of_parts(x, torch.expm1(t, out=reuse(t)), alpha, scale, out[0]),)


def _value_and_slope(x: Tensor, out: Out, alpha: float, scale: float, input_scale: float) -> tuple[Tensor, Tensor]:
    t = _exponent(x, input_scale, out[1])
    y = _sum_of_parts(x, torch.expm1(t, out=out[0]), alpha, scale, out[0])
    slope = exponential(t)  # y + alpha would be cheaper, and lose every digit where it is small
    at_zero = alpha * scale * input_scale
    if at_zero == scale == 1:  # as exp(t) = 1 where x > 0
        return y, slope
    positive = x.clone().gt_(0)
    slope = torch.sub(slope, positive, out=reuse(slope))
    slope = torch.mul(slope, at_zero, out=reuse(slope))
    return y, torch.add(slope, positive, alpha=scale, out=reuse(slope))


def _exponent(x: Tensor, input_scale: float, out: Tensor | None) -> Tensor:
    """t = input_scale min(x, 0), in `out` if that is given."""
    t = torch.clamp_max(x, 0, out=out)
    return t if input_scale == 1 else torch.mul(t, input_scale, out=reuse(t))


def _sum_of_parts(x: Tensor, below: Tensor, alpha: float, scale: float, out: Tensor | None) -> Tensor:
    """From x and below = exp(t) - 1, one of max(x, 0) and below being 0, to y."""
    above = relu(x)  # at x = 0 autograd gives it the slope 0 and clamp_max the slope 1: together alpha, as in PyTorch
    if scale != 1:
        above = torch.mul(above, scale, out=reuse(above))
    return torch.add(above, below, alpha=alpha * scale, out=out)


class ELU(SmoothActivation):
    """y = x where x > 0, alpha (exp(x) - 1) elsewhere (Clevert et al., "Fast and Accurate Deep Network Learning by
    Exponential Linear Units", 2015, section 3).

    Twin of torch.nn.ELU, `inplace` left out. Keeps its slope dy/dx.

    Args:
        alpha: what y tends to, negated, as x becomes very negative.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def value(self, x: Tensor) -> Tensor:
        return elu(x, self.alpha)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return elu_with_slope(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"
