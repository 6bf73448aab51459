"""The logarithm of the sigmoid, exact where the sigmoid itself is 0 or 1. Theory: docs/log_sigmoid.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.activations.smooth import SmoothActivation
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form


def plain_log_sigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = log(1 / (1 + exp(-x)))."""
    negative = torch.minimum(x, torch.zeros_like(x))
    return negative - torch.log1p(torch.exp(-torch.abs(x)))  # y = min(x, 0) - log(1 + exp(-|x|))           (2)


def plain_log_sigmoid_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    return plain_log_sigmoid(x), plain_sigmoid(-x)  # dy/dx = 1 / (1 + exp(x)) = sigmoid(-x)                (3)


# The fast pair takes exponentials as powers of 2 and writes each step into memory that it holds already, in chunks that
# stay in the cache.


@fast_form(plain_log_sigmoid)
@compilable
def log_sigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = log(1 / (1 + exp(-x)))."""
    (y,) = elementwise(_value, x)
    return y


@fast_form(plain_log_sigmoid_with_slope)
@compilable
def log_sigmoid_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    least = torch.minimum(x, torch.zeros((), dtype=x.dtype, device=x.device))
    return (torch.sub(least, log_of_one_plus_exp(x), out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    (y,) = _value(x, out)
    return y, logistic(torch.mul(x, LOG2_E, out=out[1]))


def log_of_one_plus_exp(z: Tensor) -> Tensor:
    """log(1 + exp(-|z|)), the part of log(1 + exp(z)) and log(1 + exp(-z)) that lies between 0 and log(2)."""
    t = torch.abs(z)
    t = torch.mul(t, -LOG2_E, out=reuse(t))
    t = torch.exp2(t, out=reuse(t))
    return torch.log1p(t, out=reuse(t))


class LogSigmoid(SmoothActivation):
    """y = log(1 / (1 + exp(-x))), element by element.

    Twin of torch.nn.LogSigmoid. Keeps its slope dy/dx.
    """

    def value(self, x: Tensor) -> Tensor:
        return log_sigmoid(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return log_sigmoid_with_slope(x)
