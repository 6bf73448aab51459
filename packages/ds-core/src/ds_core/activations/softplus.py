"""Softplus: log(1 + exp(beta x)) / beta, a rectifier without a kink. Theory: docs/softplus.md."""

import math
from functools import partial

import torch
from torch import Tensor

from ds_core.activations.log_sigmoid import log_of_one_plus_exp
from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.activations.smooth import SmoothActivation
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form


def plain_softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """x -> y of the same shape, y = log(1 + exp(beta x)) / beta, or x where beta x > threshold."""
    z = beta * x
    zero = torch.zeros_like(x)
    positive = torch.maximum(x, zero) if beta > 0 else torch.minimum(x, zero)  # max(z, 0) / beta; z may be infinite
    # y = max(z, 0) / beta + log(1 + exp(-|z|)) / beta                                                      (2)
    y = positive + torch.log1p(torch.exp(-torch.abs(z))) / beta
    return torch.where(z > threshold, x, y)


def plain_softplus_with_slope(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    slope = torch.where(beta * x > threshold, 1, plain_sigmoid(beta * x))  # dy/dx = sigmoid(z)             (3)
    return plain_softplus(x, beta, threshold), slope


# The fast pair takes exponentials as powers of 2 and works in chunks that stay in the cache. It leaves out the choice
# at the threshold, which is slow on a CPU, if that cannot change the result.


@fast_form(plain_softplus)
@compilable
def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """x -> y of the same shape, y = log(1 + exp(beta x)) / beta, or x where beta x > threshold."""
    (y,) = elementwise(partial(_value, beta=beta, threshold=threshold), x)
    return y


@fast_form(plain_softplus_with_slope)
@compilable
def softplus_with_slope(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(partial(_value_and_slope, beta=beta, threshold=threshold), x, results=2)
    return y, slope


def _value(x: Tensor, out: Out, beta: float, threshold: float) -> tuple[Tensor]:
    z = x if beta == 1 else x * beta
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    positive = torch.maximum(x, zero) if beta > 0 else torch.minimum(x, zero)
    logarithm = log_of_one_plus_exp(z)
    if beta != 1:
        logarithm = torch.div(logarithm, beta, out=reuse(logarithm))
    y = torch.add(positive, logarithm, out=out[0])
    return (y if _is_late(threshold, z) else torch.where(z > threshold, x, y, out=out[0]),)


def _value_and_slope(x: Tensor, out: Out, beta: float, threshold: float) -> tuple[Tensor, Tensor]:
    (y,) = _value(x, out, beta, threshold)
    slope = logistic(torch.mul(x, -beta * LOG2_E, out=out[1]))
    return y, slope if _is_late(threshold, x) else slope.masked_fill_(x * beta > threshold, 1)


def _is_late(threshold: float, z: Tensor) -> bool:
    """Whether softplus equals z to rounding beyond the threshold, so that there is nothing to choose."""
    return threshold > -math.log(torch.finfo(z.dtype).eps / 4)


class Softplus(SmoothActivation):
    """y = log(1 + exp(beta x)) / beta, element by element, and y = x where beta x > threshold.

    Dugas et al., "Incorporating Second-Order Functional Knowledge", 2000. Twin of torch.nn.Softplus. Keeps its slope
    dy/dx.

    Args:
        beta: how sharp the bend at 0 is.
        threshold: above it y is x itself.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def value(self, x: Tensor) -> Tensor:
        return softplus(x, self.beta, self.threshold)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return softplus_with_slope(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"
