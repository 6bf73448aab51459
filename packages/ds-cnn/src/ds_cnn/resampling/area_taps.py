"""Area resampling: each output is the mean of the input positions that it touches. Theory: docs/area_taps.md."""

import torch
from torch import Tensor

from ds_cnn.resampling.sampling_axis import Axis, Taps


def area_taps(axis: Axis, like: Tensor) -> Taps:
    """As many taps as the longest window has; the shorter windows have weights of 0 at their ends."""
    outputs = torch.arange(axis.count, device=like.device)[:, None]  # (O, 1)
    first = outputs * axis.size // axis.count  # floor(o S / O)                                           (1)
    last = ((outputs + 1) * axis.size - 1) // axis.count  # ceil((o + 1) S / O) - 1                       (1)
    longest = axis.size // axis.count + (0 if axis.size % axis.count == 0 else 2)
    indices = first + torch.arange(longest, device=like.device)  # (O, K)
    weights = (indices <= last).to(like.dtype) / (last - first + 1)  # 1 / length inside, else 0          (2)
    return Taps(torch.clamp(indices, max=axis.size - 1), weights)
