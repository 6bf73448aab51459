"""The gated linear unit: one half of x, multiplied by the sigmoid of the other. Theory: docs/glu.md."""

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.errors import ShapeError
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form

# a, b = the first and the second half of x along dim


def plain_glu(a: Tensor, b: Tensor) -> Tensor:
    """a, b -> y, all of one shape, y = a sigmoid(b)."""
    return a * plain_sigmoid(b)  # y = a s                                                                  (2)


def plain_glu_with_slopes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, b -> y, dy/da and dy/db, all of one shape."""
    s = plain_sigmoid(b)  # dy/da = s                                                                       (3)
    y = a * s  # (2)
    return y, s, y * (1 - s)  # dy/db = y (1 - s)                                                           (4)


def glu_backward(dy: Tensor, slope_a: Tensor, slope_b: Tensor, dim: int) -> Tensor:
    """dy and the slopes of `glu_with_slopes`, of one shape -> dx, twice as long along `dim`."""
    da = dy * slope_a  # da = dy dy/da                                                                      (1)
    db = dy * slope_b  # db = dy dy/db                                                                      (1)
    return torch.cat((da, db), dim)


# The fast pair takes the exponential as a power of 2, once for y and both slopes, and works in chunks that stay in the
# cache.


@fast_form(plain_glu)
@compilable
def glu(a: Tensor, b: Tensor) -> Tensor:
    """a, b -> y, all of one shape, y = a sigmoid(b)."""
    (y,) = elementwise(_value, a, b)
    return y


@fast_form(plain_glu_with_slopes)
@compilable
def glu_with_slopes(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, b -> y, dy/da and dy/db, all of one shape: together they take one exponential."""
    y, slope_a, slope_b = elementwise(_value_and_slopes, a, b, results=3)
    return y, slope_a, slope_b


def _value(a: Tensor, b: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(a, logistic(b * -LOG2_E), out=out[0]),)


def _value_and_slopes(a: Tensor, b: Tensor, out: Out) -> tuple[Tensor, Tensor, Tensor]:
    slope_a = logistic(torch.mul(b, -LOG2_E, out=out[1]))
    y = torch.mul(a, slope_a, out=out[0])
    zero = torch.zeros((), dtype=y.dtype, device=y.device)
    # (4) by lerp, from y to 0: it keeps the digits of 1 - s if s is near 1
    return y, slope_a, torch.lerp(y, zero, slope_a, out=out[2])


class GLU(Module):
    """y = a sigmoid(b), where a and b are the two halves of x (Dauphin et al., "Gated Convolutional Networks", 2016).

    Twin of torch.nn.GLU. Keeps the slopes dy/da and dy/db instead of x, together as many elements as x has.

    Args:
        dim: the dimension that is halved.

    Raises:
        ShapeError: from `forward`, if that dimension is odd, or x has none.
        IndexError: from `forward`, if x has no dimension `dim`.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """input -> y, half as long along `dim`."""
        if input.dim() == 0:
            raise ShapeError(f"{self!r}: given input of shape (), expected at least one dimension")
        if not -input.dim() <= self.dim < input.dim():
            raise IndexError(f"{self!r}: given input of shape {tuple(input.shape)}, which has no dimension {self.dim}")
        if input.shape[self.dim] % 2 != 0:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(input.shape)}, "
                f"expected an even dimension {self.dim} to be halved"
            )
        half = input.shape[self.dim] // 2
        a, b = input.narrow(self.dim, 0, half), input.narrow(self.dim, half, half)
        if not recording():
            return glu(a, b)
        y, slope_a, slope_b = glu_with_slopes(a, b)
        self.save(slope_a, slope_b)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx of the shape of x, twice as long along `dim`."""
        slope_a, slope_b = self.saved()
        return None if dy is None else glu_backward(dy, slope_a, slope_b, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
