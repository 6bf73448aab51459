"""Linear interpolation: each output lies on the line between its two neighbours. Theory: docs/linear_taps.md."""

import torch
from torch import Tensor

from ds_cnn.resampling.sampling_axis import Axis, Taps, source_positions


def linear_taps(axis: Axis, like: Tensor) -> Taps:
    """Two taps an output; bilinear and trilinear are this on each axis."""
    if axis.count == axis.size:  # a copy in PyTorch, even if a scale factor such as 1.1 says otherwise
        positions = torch.arange(axis.count, dtype=like.dtype, device=like.device)
    else:
        positions = torch.clamp(source_positions(axis, like), min=0)
    left = torch.clamp(torch.floor(positions), max=axis.size - 1)  # i = floor(c)                         (1)
    share = torch.clamp(positions - left, max=1)  # t = c - i                                             (1)
    right = torch.clamp(left + 1, max=axis.size - 1)
    return Taps(torch.stack((left, right), 1).long(), torch.stack((1 - share, share), 1))  # 1 - t, t     (2)
