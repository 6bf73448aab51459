"""Tensors whose rows belong together."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ds_core.errors import ShapeError

Index: TypeAlias = int | slice | Tensor | Sequence[int]


class TensorDataset:
    """Row i is `(tensors[0][i], tensors[1][i], ...)`: inputs first, the target last.

    Args:
        tensors: each (N, ...), one at least.

    Raises:
        TypeError: something else than a tensor.
        ShapeError: no tensor, one without dimensions, or different N.
    """

    def __init__(self, *tensors: Tensor) -> None:
        for number, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"TensorDataset: given {type(tensor).__name__} as tensor {number}, expected a tensor")
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if not shapes or any(not shape or shape[0] != shapes[0][0] for shape in shapes):
            given = ", ".join(map(str, shapes)) or "no tensor"
            raise ShapeError(f"TensorDataset: given {given}, expected tensors of the same first dimension")
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Index) -> tuple[Tensor, ...]:
        """One row for a number; rows for a slice (views), a tensor of numbers or of bools, or a list of numbers."""
        return tuple(tensor[index] for tensor in self.tensors)

    def rows(self, index: slice | Tensor) -> tuple[Tensor, ...]:
        """The rows of a slice, as views, or those whose numbers are in a tensor (n,), as copies: each (n, ...)."""
        return self[index]

    def to(self, device: torch.device | str) -> "TensorDataset":
        """The same rows on another device."""
        return TensorDataset(*(tensor.to(device) for tensor in self.tensors))

    def __repr__(self) -> str:
        parts = [f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in self.tensors]
        return f"TensorDataset({', '.join(parts)})"
