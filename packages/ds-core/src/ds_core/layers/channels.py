"""Sums over the numbers of each channel, and vectors laid along the channels. Theory: docs/batch_norm.md."""

import math

from torch import Tensor

# N = batch, C = channels, M = values of one channel: N times all dimensions after C


def values_per_channel(x: Tensor) -> int:
    """M of x (N, C, ...)."""
    return x.shape[0] * math.prod(x.shape[2:])


def inverse_values_per_channel(x: Tensor) -> float:
    """1 / M of x (N, C, ...); 1 if M is 0."""
    return 1 / max(1, values_per_channel(x))


def channel_sums(x: Tensor) -> Tensor:
    """x (N, C, ...) -> (C,)."""
    return x.sum([0, *range(2, x.dim())])


def along_channels(vector: Tensor, x: Tensor) -> Tensor:
    """vector (C,) -> a view that broadcasts with x (N, C, ...)."""
    return vector.view(-1, *[1] * (x.dim() - 2))
