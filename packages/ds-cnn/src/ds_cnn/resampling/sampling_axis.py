"""One axis of an image that is resampled: sizes, step and source positions. Theory: docs/sampling_axis.md."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# S = positions of the input, O = positions of the output, s = step between two outputs, in input positions,
# K = taps, the input positions that one output is computed from


@dataclass(frozen=True)
class Axis:
    """How one axis is resampled."""

    size: int  # S
    count: int  # O
    step: float  # s
    align_corners: bool = False


class Taps(NamedTuple):
    """What each output of an axis is a weighted sum of: `indices` (O, K), all inside the input, and `weights` (O, K).

    An input position may stand in a row more than once, as at the borders; its weights add up.
    """

    indices: Tensor
    weights: Tensor


def make_axis(size: int, count: int, scale_factor: float | None = None, align_corners: bool = False) -> Axis:
    """The axis from S to O positions, with s from the sizes, or from `scale_factor` if it is given."""
    if align_corners:
        step = (size - 1) / (count - 1) if count > 1 else 0.0  # s = (S - 1) / (O - 1)                    (3)
    elif scale_factor is not None:
        step = 1.0 / scale_factor
    else:
        step = size / count  # s = S / O                                                                  (1)
    return Axis(size, count, step, align_corners)


def source_positions(axis: Axis, like: Tensor) -> Tensor:
    """c (O,): where each output lies among the positions of the input, in the dtype and on the device of `like`."""
    outputs = torch.arange(axis.count, dtype=like.dtype, device=like.device)
    if axis.align_corners:
        return axis.step * outputs  # c_o = s o                                                           (4)
    return axis.step * (outputs + 0.5) - 0.5  # c_o = s (o + 1/2) - 1/2                                   (2)
