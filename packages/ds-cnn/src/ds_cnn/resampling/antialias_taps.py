"""Antialiasing: the kernel is widened by the step before it samples. Theory: docs/antialias_taps.md."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ds_cnn.resampling.cubic_taps import cubic_kernel
from ds_cnn.resampling.sampling_axis import Axis, Taps

# S, O, s, K as in sampling_axis.py; R = radius of the kernel, f = max(s, 1) what it is widened by
SLOPE = -0.5  # a of the antialiased cubic kernel, as in Pillow; without antialiasing it is -0.75


def antialiased_linear_taps(axis: Axis, like: Tensor) -> Taps:
    """A triangle over 2 f positions."""
    return _widened_taps(axis, like, 1, lambda distance: torch.clamp(1 - distance, min=0))


def antialiased_cubic_taps(axis: Axis, like: Tensor) -> Taps:
    """Keys' kernel over 4 f positions."""
    return _widened_taps(axis, like, 2, lambda distance: cubic_kernel(distance, SLOPE))


def antialiased_lanczos_taps(axis: Axis, like: Tensor) -> Taps:
    """A sinc, faded out by the middle lobe of another, over 6 f positions (Duchon, "Lanczos Filtering", 1979)."""
    return _widened_taps(axis, like, 3, lambda distance: _sinc(distance) * _sinc(distance / 3) * (distance < 3))


def _widened_taps(axis: Axis, like: Tensor, radius: int, kernel: Callable[[Tensor], Tensor]) -> Taps:
    factor = max(axis.step, 1.0)
    reach = radius * factor  # R f
    outputs = torch.arange(axis.count, dtype=like.dtype, device=like.device)[:, None]  # (O, 1)
    centres = axis.step * (outputs + 0.5)  # in a coordinate in which position i is the interval from i to i + 1
    first = torch.clamp(torch.floor(centres - reach + 0.5), min=0)
    last = torch.clamp(torch.floor(centres + reach + 0.5), max=axis.size) - 1
    indices = first + torch.arange(2 * math.ceil(reach) + 1, dtype=like.dtype, device=like.device)  # (O, K)
    heights = kernel(torch.abs(indices + 0.5 - centres) / factor) * (indices <= last)  # k(d / f)         (1)
    weights = heights / heights.sum(1, keepdim=True)  #                                                   (2)
    return Taps(torch.clamp(indices, max=axis.size - 1).long(), weights)


def _sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), which is 1 at 0."""
    angles = math.pi * torch.where(x == 0, torch.ones_like(x), x)
    return torch.where(x == 0, torch.ones_like(x), torch.sin(angles) / angles)
