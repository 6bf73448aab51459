"""The logarithm of the sigmoid, exact where the sigmoid itself is 0 or 1. Theory: docs/log_sigmoid.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic
from ds_core.engine.module import Module
from ds_core.engine.trace import recording, reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E


@compilable
def log_sigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = log(1 / (1 + exp(-x)))."""
    (y,) = elementwise(_value, x)
    return y


@compilable
def log_sigmoid_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(_value_and_slope, x, results=2)
    return y, slope


def log_sigmoid_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `log_sigmoid_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    least = torch.minimum(x, torch.zeros((), dtype=x.dtype, device=x.device))
    return (torch.sub(least, log_of_one_plus_exp(x), out=out[0]),)  # y = min(x, 0) - log(1 + exp(-|x|))    (2)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    (y,) = _value(x, out)
    # dy/dx = 1 / (1 + exp(x))                                                                              (3)
    return y, logistic(torch.mul(x, LOG2_E, out=out[1]))


def log_of_one_plus_exp(z: Tensor) -> Tensor:
    """log(1 + exp(-|z|)), the part of log(1 + exp(z)) and log(1 + exp(-z)) that lies between 0 and log(2)."""
    t = torch.abs(z)
    t = torch.mul(t, -LOG2_E, out=reuse(t))
    t = torch.exp2(t, out=reuse(t))
    return torch.log1p(t, out=reuse(t))


class LogSigmoid(Module):
    """y = log(1 / (1 + exp(-x))), element by element.

    Twin of torch.nn.LogSigmoid. Keeps dy/dx, as many numbers as x has and in the place of x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return log_sigmoid(input)
        y, slope = log_sigmoid_with_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else log_sigmoid_backward(dy, slope)
