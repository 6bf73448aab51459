"""The logistic sigmoid, any number into (0, 1). Theory: docs/sigmoid.md."""

import math

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating


def plain_sigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = 1 / (1 + exp(-x))."""
    # Multiplied above and below by exp(min(x, 0)), because exp(-x) overflows if x is very negative.
    negative = torch.minimum(x, torch.zeros_like(x))
    return torch.exp(negative) / (1 + torch.exp(-torch.abs(x)))  # y = 1 / (1 + exp(-x))                    (1)


def plain_sigmoid_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return dy * (y - y * y)  # dx = dy (y - y^2)                                                            (3)


# The fast pair takes the exponential as a power of 2, which has no slow cases, and writes each step into the memory of
# the result, chunk by chunk.


@fast_form(plain_sigmoid)
@compilable
def sigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = 1 / (1 + exp(-x))."""
    (y,) = elementwise(_value, to_floating(x))
    return y


@fast_form(plain_sigmoid_backward)
@compilable
def sigmoid_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y -> dx, all of one shape."""
    (dx,) = elementwise(_gradient, dy, y)
    return dx


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (logistic(torch.mul(x, -LOG2_E, out=out[0])),)


def _gradient(dy: Tensor, y: Tensor, out: Out) -> tuple[Tensor]:
    slope = torch.addcmul(y, y, y, value=-1, out=out[0])
    return (slope.mul_(dy),)  # dx = dy (y - y^2)                                                           (3)


def logistic(t: Tensor) -> Tensor:
    """1 / (1 + 2^t), in the memory of `t` if that may be reused: give it a temporary.

    With t = -z log2(e) it is sigmoid(z). A layer whose z is a product or a sum makes t in the same pass. torch.exp2
    takes the same time for every number; torch.exp takes a hundred times longer for numbers that overflow.
    """
    if torch.is_grad_enabled():
        # An infinite 2^t gives the right value, 1 / (1 + inf) = 0, but to autograd the derivative 0 inf = NaN. And the
        # least of the values that it can have without that is no 0: a layer may multiply it by a huge x.
        limit = math.log2(torch.finfo(t.dtype).max) - 1
        return torch.where(t > limit, 0.0, torch.reciprocal(torch.exp2(torch.clamp_max(t, limit)) + 1))
    t = torch.exp2(t, out=reuse(t))
    t = torch.add(t, 1, out=reuse(t))
    return torch.reciprocal(t, out=reuse(t))  # s = 1 / (1 + 2^t)                                           (2)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x)), element by element.

    Twin of torch.nn.Sigmoid. Keeps its output, which the layer above most often keeps too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        y = sigmoid(input)
        self.save(y)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (y,) = self.saved()
        return None if dy is None else sigmoid_backward(dy, y)
