"""Several dimensions into one, as before a linear layer. Theory: docs/shape.md."""

import math

from torch import Tensor

from ds_core.engine.module import Module
from ds_core.errors import ShapeError


def dimension(layer: Module, x: Tensor, number: int) -> int:
    """`number` counted from the front; raises IndexError, naming `layer`, where x has no such dimension."""
    count = max(1, x.dim())
    if not -count <= number < count:
        raise IndexError(f"{layer!r}: given input of shape {tuple(x.shape)}, which has no dimension {number}")
    return number % count


class Flatten(Module):
    """The dimensions from `start_dim` to `end_dim`, both included, as one; the numbers in the same order.

    Twin of torch.nn.Flatten. Keeps the shape of x alone. A single number, of no dimension, becomes a vector of one.

    Args:
        start_dim: the first of the dimensions; negative counts from the end.
        end_dim: the last of them.

    Raises:
        IndexError: from `forward`, where x has no such dimension.
        ShapeError: from `forward`, where `start_dim` comes after `end_dim`.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        """input (..., S_start, ..., S_end, ...) -> y (..., S_start ... S_end, ...), a view if the memory allows it."""
        first, last = dimension(self, input, self.start_dim), dimension(self, input, self.end_dim)
        if first > last:
            shape = tuple(input.shape)
            raise ShapeError(f"{self!r}: given input of shape {shape}, where start_dim={first} is after end_dim={last}")
        self.save(input.shape)
        return input.reshape(*input.shape[:first], math.prod(input.shape[first : last + 1]), *input.shape[last + 1 :])

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy of the shape of y -> dx of that of x."""
        (shape,) = self.saved()
        return None if dy is None else dy.reshape(shape)  # dx is dy in the shape of x                       (2)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
