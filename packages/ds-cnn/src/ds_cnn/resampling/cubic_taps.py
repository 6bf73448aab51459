"""Cubic convolution: each output from its four neighbours on a smooth curve. Theory: docs/cubic_taps.md."""

import torch
from torch import Tensor

from ds_cnn.resampling.sampling_axis import Axis, Taps, source_positions

SLOPE = -0.75  # a, the slope of the kernel at distance 1; PyTorch and OpenCV choose this one


def cubic_kernel(distance: Tensor, slope: float) -> Tensor:
    """k(d) for distances d >= 0 of any shape, 0 from 2 on (Keys, "Cubic Convolution Interpolation", 1981)."""
    d, a = distance, slope
    near = ((a + 2) * d - (a + 3)) * d * d + 1  # (a + 2) d^3 - (a + 3) d^2 + 1                           (1)
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # a (d^3 - 5 d^2 + 8 d - 4)                          (2)
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def cubic_taps(axis: Axis, like: Tensor) -> Taps:
    """Four taps an output; those beyond a border are the border itself."""
    positions = source_positions(axis, like)[:, None]  # (O, 1)
    left = torch.clamp(torch.floor(positions), max=axis.size - 1)
    offsets = torch.arange(-1, 3, dtype=like.dtype, device=like.device)
    distances = torch.abs(torch.clamp(positions - left, max=1) - offsets)  # |t - j|, j = -1 ... 2
    weights = cubic_kernel(distances, SLOPE)  # k(t - j)                                                  (3)
    return Taps(torch.clamp((left + offsets).long(), 0, axis.size - 1), weights)
