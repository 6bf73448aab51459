"""One dimension into several, as before a convolution. Theory: docs/shape.md."""

import math
from collections.abc import Sequence

from torch import Tensor

from ds_core.engine.module import Module
from ds_core.errors import ShapeError
from ds_core.layers.flatten import dimension


class Unflatten(Module):
    """The dimension `dim` as several, of the sizes `unflattened_size`; the numbers in the same order.

    Twin of torch.nn.Unflatten, without named dimensions. Keeps the shape of x alone.

    Args:
        dim: the dimension; negative counts from the end.
        unflattened_size: tuple or list of sizes, one of which may be -1: as many as there are.

    Raises:
        TypeError: where `unflattened_size` is no tuple or list of integers.
        IndexError: from `forward`, where x has no dimension `dim`.
        ShapeError: from `forward`, where the sizes do not multiply to that of the dimension.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        if not isinstance(unflattened_size, (tuple, list)):
            given = type(unflattened_size).__name__
            raise TypeError(f"Unflatten: given an unflattened_size of type {given}, expected a tuple of integers")
        for index, size in enumerate(unflattened_size):
            if not isinstance(size, int):
                given = f"a {type(size).__name__} at index {index} of unflattened_size"
                raise TypeError(f"Unflatten: given {given}, expected integers")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        """input (..., S, ...) -> y (..., U_1, ..., U_n, ...), a view where the memory allows it."""
        dim = dimension(self, input, self.dim)
        sizes = self._sizes(input.shape[dim]) if input.dim() > 0 else None
        if sizes is None:
            message = f"expected sizes that multiply to that of dimension {self.dim}"
            raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, {message}")
        self.save(input.shape)
        return input.reshape(*input.shape[:dim], *sizes, *input.shape[dim + 1 :])

    def _sizes(self, whole: int) -> list[int] | None:
        """The sizes with -1 replaced; None if they do not fit."""
        sizes = list(self.unflattened_size)
        if sizes.count(-1) == 1:
            known = -math.prod(sizes)
            sizes[sizes.index(-1)] = whole // known if known > 0 else -1
        return sizes if sizes and min(sizes) >= 0 and math.prod(sizes) == whole else None

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy of the shape of y -> dx of that of x."""
        (shape,) = self.saved()
        return None if dy is None else dy.reshape(shape)  # dx is dy in the shape of x                       (2)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
