"""Softplus: log(1 + exp(beta x)) / beta, a rectifier without a kink. Theory: docs/softplus.md."""

import math
from functools import partial

import torch
from torch import Tensor

from ds_core.activations.log_sigmoid import log_of_one_plus_exp
from ds_core.activations.sigmoid import logistic
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E


@compilable
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """x -> y of the same shape, y = log(1 + exp(beta x)) / beta, or x where beta x > threshold."""
    (y,) = elementwise(partial(_value, beta=beta, threshold=threshold), x)
    return y


@compilable
def softplus_with_slope(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(partial(_value_and_slope, beta=beta, threshold=threshold), x, results=2)
    return y, slope


def softplus_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `softplus_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _value(x: Tensor, out: Out, beta: float, threshold: float) -> tuple[Tensor]:
    z = x if beta == 1 else x * beta
    greatest = torch.maximum(z, torch.zeros((), dtype=z.dtype, device=z.device))
    y = torch.add(greatest, log_of_one_plus_exp(z), out=out[0])  # y = (max(z, 0) + log(1 + exp(-|z|))) / beta (2)
    if beta != 1:
        y = torch.div(y, beta, out=out[0])
    return (y if _is_late(threshold, z) else torch.where(z > threshold, x, y, out=out[0]),)


def _value_and_slope(x: Tensor, out: Out, beta: float, threshold: float) -> tuple[Tensor, Tensor]:
    (y,) = _value(x, out, beta, threshold)
    slope = logistic(torch.mul(x, -beta * LOG2_E, out=out[1]))  # dy/dx = 1 / (1 + exp(-z))                 (3)
    return y, slope if _is_late(threshold, x) else slope.masked_fill_(x * beta > threshold, 1)


def _is_late(threshold: float, z: Tensor) -> bool:
    """Whether softplus is z to rounding beyond the threshold: to choose z there, which is slow, is then left out."""
    return threshold > -math.log(torch.finfo(z.dtype).eps / 4)


class Softplus(Module):
    """y = log(1 + exp(beta x)) / beta, element by element, and y = x where beta x > threshold.

    Dugas et al., "Incorporating Second-Order Functional Knowledge", 2000. Twin of torch.nn.Softplus. Keeps dy/dx, as
    many numbers as x has and in the place of x.

    Args:
        beta: how sharp the bend at 0 is.
        threshold: from where on x itself is given.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return softplus(input, self.beta, self.threshold)
        y, slope = softplus_with_slope(input, self.beta, self.threshold)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else softplus_backward(dy, slope)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"
