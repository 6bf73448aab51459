"""Softsign: x / (1 + |x|), any number into (-1, 1). Theory: docs/softsign.md."""

import torch
from torch import Tensor

from ds_core.activations.smooth import SmoothActivation
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating


def plain_softsign(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x / (1 + |x|)."""
    return x / (1 + torch.abs(x))


def plain_softsign_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    return plain_softsign(x), 1 / (1 + torch.abs(x)) ** 2  # dy/dx = 1 / (1 + |x|)^2                        (2)


# The fast pair computes 1 + |x| once for value and slope, in chunks that stay in the cache.


@fast_form(plain_softsign)
@compilable
def softsign(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = x / (1 + |x|)."""
    (y,) = elementwise(_value, to_floating(x))
    return y


@fast_form(plain_softsign_with_slope)
@compilable
def softsign_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    y, slope = elementwise(_value_and_slope, to_floating(x), results=2)
    return y, slope


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.div(x, _denominator(x), out=out[0]),)


def _value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    denominator = _denominator(x)
    y = torch.div(x, denominator, out=out[0])
    inverse = torch.reciprocal(denominator, out=reuse(denominator))
    return y, torch.mul(inverse, inverse, out=out[1])


def _denominator(x: Tensor) -> Tensor:
    t = torch.abs(x)
    return torch.add(t, 1, out=reuse(t))


class Softsign(SmoothActivation):
    """y = x / (1 + |x|), element by element (Turian et al., "Quadratic features and deep architectures", 2009).

    Twin of torch.nn.Softsign. Keeps its slope dy/dx.
    """

    def value(self, x: Tensor) -> Tensor:
        return softsign(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return softsign_with_slope(x)
