"""Vectors of length 1: only the direction counts. Theory: docs/miniclip/normalise.md."""

from ds_core import Module
from ds_core.speed.precision import widened
from torch import Tensor

# P = numbers in a vector, ... = any dimensions before


def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (..., P) -> y (..., P) of length 1, and 1 / |x| (..., 1)."""
    inverse = (x * x).sum(-1, keepdim=True).rsqrt()  # r = 1 / |x|                                          (1)
    return x * inverse, inverse  # y = r x                                                                   (2)


def normalise_backward(dy: Tensor, y: Tensor, inverse: Tensor) -> Tensor:
    """dy, y (..., P), inverse (..., 1) -> dx (..., P)."""
    along = (dy * y).sum(-1, keepdim=True)
    return inverse * (dy - along * y)  # dx = r (dy - (dy . y) y)                                            (5)


class Normalise(Module):
    """y = x / |x|, each vector by itself. As in CLIP nothing is added to |x|: one of zeros becomes NaN."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., P) -> y (..., P)."""
        wide, inverse = normalise(widened(x))
        y = wide.to(x.dtype)
        self.save(y, inverse)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy (..., P) -> dx (..., P)."""
        y, inverse = self.saved()
        return None if dy is None else normalise_backward(widened(dy), widened(y), inverse).to(y.dtype)
