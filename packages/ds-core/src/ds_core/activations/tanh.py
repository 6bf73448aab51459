"""The hyperbolic tangent, any number into (-1, 1). Theory: docs/tanh.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating, wide_dtype


def plain_tanh(x: Tensor) -> Tensor:
    """x -> y of the same shape: exact to rounding for small and large x, and so is autograd's gradient of it."""
    # Beyond 20 y is 1 to rounding, and later t would overflow; in float16 that is too late.
    t = torch.expm1(2 * torch.clamp_max(x.to(wide_dtype(x)), 20))
    return (t / (t + 2)).to(to_floating(x).dtype)  # y = t / (t + 2), t = exp(2x) - 1                       (1)


def plain_tanh_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return dy * (1 - y * y)  # dx = dy (1 - y^2)                                                            (2)


# The fast pair writes each step into memory that it holds already, in chunks that stay in the cache.


@fast_form(plain_tanh)
@compilable
def tanh(x: Tensor) -> Tensor:
    """x -> y of the same shape: exact to rounding for small and large x, and so is autograd's gradient of it."""
    (y,) = elementwise(_value, to_floating(x))
    return y


@fast_form(plain_tanh_backward)
@compilable
def tanh_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y -> dx, all of one shape."""
    (dx,) = elementwise(_gradient, dy, y)
    return dx


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    t = torch.clamp_max(x, 20)  # beyond it y is 1 in any dtype, up to it t is finite in all
    t = torch.mul(t, 2, out=reuse(t))
    t = torch.expm1(t, out=reuse(t))
    return (torch.div(t, t + 2, out=out[0]),)


def _gradient(dy: Tensor, y: Tensor, out: Out) -> tuple[Tensor]:
    one = torch.ones((), dtype=y.dtype, device=y.device)
    slope = torch.addcmul(one, y, y, value=-1, out=out[0])
    return (slope.mul_(dy),)


class Tanh(Module):
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)), element by element.

    Twin of torch.nn.Tanh. Keeps its output, which the layer above most often keeps too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        y = tanh(input)
        self.save(y)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (y,) = self.saved()
        return None if dy is None else tanh_backward(dy, y)
