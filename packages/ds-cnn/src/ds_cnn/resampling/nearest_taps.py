"""Nearest neighbour: each output copies one position of the input. Theory: docs/nearest_taps.md."""

import torch
from torch import Tensor

from ds_cnn.resampling.sampling_axis import Axis, Taps

# S = positions of the input, O = positions of the output, s = step. PyTorch rounds s and its products to float32,
# whatever the dtype of the image, and an index changes where another rounding would cross a whole number.


def nearest_taps(axis: Axis, like: Tensor) -> Taps:
    """The taps of mode "nearest": the input position that holds the left edge of each output."""
    outputs = torch.arange(axis.count, dtype=torch.float32, device=like.device)
    return _single(torch.floor(axis.step * outputs).long(), axis, like)  # i_o = floor(s o)               (1)


def nearest_exact_taps(axis: Axis, like: Tensor) -> Taps:
    """The taps of mode "nearest-exact": the input position whose pixel holds the centre of each output."""
    outputs = torch.arange(axis.count, dtype=torch.float32, device=like.device)
    return _single(torch.floor(axis.step * (outputs + 0.5)).long(), axis, like)  # i_o = floor(s (o + 1/2))  (2)


def _single(indices: Tensor, axis: Axis, like: Tensor) -> Taps:
    indices = torch.clamp(indices, max=axis.size - 1)
    return Taps(indices[:, None], torch.ones(axis.count, 1, dtype=like.dtype, device=like.device))


def whole_factor(axis: Axis, kernel: str) -> int | None:
    """r, if the taps say that each input position is repeated exactly r times; else None.

    "nearest" is asked for powers of two alone: otherwise s = 1/r is rounded, and s r k may come out below k.
    """
    factor = axis.count // axis.size
    is_exact = kernel == "nearest-exact" or factor & (factor - 1) == 0
    return factor if is_exact and factor * axis.size == axis.count and axis.step * factor == 1.0 else None
