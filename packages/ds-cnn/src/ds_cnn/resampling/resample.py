"""An image brought to another size: a weighted sum along each axis, and its gradient. Theory: docs/resample.md."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ds_core import fast_form
from ds_core.speed.precision import wide_dtype, widened, without_autocast
from einops import repeat
from torch import Tensor

from ds_cnn.resampling.antialias_taps import (
    antialiased_cubic_taps,
    antialiased_lanczos_taps,
    antialiased_linear_taps,
)
from ds_cnn.resampling.area_taps import area_taps
from ds_cnn.resampling.cubic_taps import cubic_taps
from ds_cnn.resampling.linear_taps import linear_taps
from ds_cnn.resampling.nearest_taps import nearest_exact_taps, nearest_taps, whole_factor
from ds_cnn.resampling.sampling_axis import Axis, Taps
from ds_cnn.resampling.weight_blocks import Block, multiply, multiply_transposed, weight_blocks

# N = batch, C = channels; an image of (S_1, S_2, ...) positions becomes one of (O_1, O_2, ...), K_1, K_2, ... taps

TAPS = {
    "nearest": nearest_taps,
    "nearest-exact": nearest_exact_taps,
    "linear": linear_taps,
    "cubic": cubic_taps,
    "area": area_taps,
    "antialiased linear": antialiased_linear_taps,
    "antialiased cubic": antialiased_cubic_taps,
    "antialiased lanczos": antialiased_lanczos_taps,
}
RADIUS = {"linear": 1.5, "cubic": 2.5, "antialiased linear": 1.5, "antialiased cubic": 2.5, "antialiased lanczos": 3.5}
COPIES = ("nearest", "nearest-exact")  # one tap of weight 1: nothing is calculated, so any dtype is as good
SLICES = 4


def plain_resample(x: Tensor, axes: tuple[Axis, ...], kernel: str) -> Tensor:
    """x (N, C, S_1, S_2, ...) -> y (N, C, O_1, O_2, ...)."""
    wide = x.to(wide_dtype(x))
    taps = [TAPS[kernel](axis, wide) for axis in axes]
    y = torch.zeros(*x.shape[:2], *(axis.count for axis in axes), dtype=wide.dtype, device=x.device)
    for output in itertools.product(*(range(axis.count) for axis in axes)):
        for source, weight in weighted_sources(output, taps):
            y[index(output)] += weight * wide[index(source)]  # y_o = sum_k w_ok x_i(o,k)                 (1)
    return y.to(x.dtype)


def plain_resample_backward(dy: Tensor, axes: tuple[Axis, ...], kernel: str) -> Tensor:
    """dy (N, C, O_1, O_2, ...) -> dx (N, C, S_1, S_2, ...)."""
    wide = dy.to(wide_dtype(dy))
    taps = [TAPS[kernel](axis, wide) for axis in axes]
    dx = torch.zeros(*dy.shape[:2], *(axis.size for axis in axes), dtype=wide.dtype, device=dy.device)
    for output in itertools.product(*(range(axis.count) for axis in axes)):
        for source, weight in weighted_sources(output, taps):
            dx[index(source)] += weight * wide[index(output)]  # dx_i = sum of w_ok dy_o, i(o,k) = i      (4)
    return dx.to(dy.dtype)


def weighted_sources(output: tuple[int, ...], taps: Sequence[Taps]) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each position of the input that an output reads, and its weight: the product of those of the axes."""
    reads = [
        list(zip(tap.indices[o].tolist(), tap.weights[o], strict=True)) for o, tap in zip(output, taps, strict=True)
    ]
    for read in itertools.product(*reads):
        positions, weights = zip(*read, strict=True)
        yield positions, math.prod(weights[1:], start=weights[0])  # w = w_1 w_2 ...                       (2)


def index(position: tuple[int, ...]) -> Any:
    """Of one position of the image, for all of the batch and all channels."""
    return (..., *position)


# Axis by axis, each by matrix products. Nearest neighbours are copied, and by a whole factor repeated and summed.
@fast_form(plain_resample)
@without_autocast
def resample(x: Tensor, axes: tuple[Axis, ...], kernel: str) -> Tensor:
    """x (N, C, S_1, S_2, ...) -> y (N, C, O_1, O_2, ...)."""
    y, first = _in_memory_order(x if kernel in COPIES else widened(x))
    for d in _smallest_first([axis.count / axis.size for axis in axes], last_first=True):
        if _is_identity(axes[d], kernel):
            continue
        if kernel in COPIES:
            y = _copied(y, first + d, axes[d], kernel)
        else:
            y = multiply(y, first + d, _blocks(axes[d], kernel, y))  # y = W x on this axis               (3)
    return _returned(y, first, x.dtype, all(_is_identity(axis, kernel) for axis in axes))


@fast_form(plain_resample_backward)
@without_autocast
def resample_backward(dy: Tensor, axes: tuple[Axis, ...], kernel: str) -> Tensor:
    """dy (N, C, O_1, O_2, ...) -> dx (N, C, S_1, S_2, ...)."""
    dx, first = _in_memory_order(widened(dy))
    for d in _smallest_first([axis.size / axis.count for axis in axes]):
        if _is_identity(axes[d], kernel):
            continue
        factor = whole_factor(axes[d], kernel) if kernel in COPIES else None
        if factor is not None:
            dx = _run_sums(dx, first + d, factor)
        else:
            dx = multiply_transposed(dx, first + d, _blocks(axes[d], kernel, dx), axes[d].size)  # W^T dy  (5)
    return _returned(dx, first, dy.dtype, all(_is_identity(axis, kernel) for axis in axes))


def _smallest_first(growth: Sequence[float], last_first: bool = False) -> Sequence[int]:
    """The axes in the order of their growth, so that results on the way are small; of equal ones the first, or last.

    The compiler cannot sort sizes that may change, so a compiled step keeps the order of the axes.
    """
    order = range(len(growth))
    if torch.compiler.is_compiling():
        return order
    return sorted(order, key=lambda d: (growth[d], -d if last_first else d))


def _in_memory_order(x: Tensor) -> tuple[Tensor, int]:
    """`x` with its channels last if they are so in memory, and which dimension is the first axis of the image."""
    is_last = x.stride(1) == 1 and x.shape[1] > 1
    return (x.movedim(1, -1), 1) if is_last else (x, 2)


def _returned(y: Tensor, first: int, dtype: torch.dtype, is_given: bool) -> Tensor:
    """`y` with its channels second, and as a copy if it is still what was given."""
    y = (y.movedim(-1, 1) if first == 1 else y).to(dtype)
    return y.clone() if is_given else y


def _blocks(axis: Axis, kernel: str, like: Tensor) -> list[Block]:
    return weight_blocks(axis, TAPS[kernel](axis, like), RADIUS.get(kernel, 1.0))


def _is_identity(axis: Axis, kernel: str) -> bool:
    """Whether W is known to be the identity."""
    if kernel in COPIES:
        return whole_factor(axis, kernel) == 1
    return axis.count == axis.size and (kernel == "linear" or axis.step == 1.0)


def _copied(x: Tensor, dim: int, axis: Axis, kernel: str) -> Tensor:
    factor = whole_factor(axis, kernel)
    before, behind = x.shape[:dim], x.shape[dim + 1 :]
    rows = x.reshape(math.prod(before), axis.size, math.prod(behind))
    if factor is not None:
        y = repeat(rows, "before s behind -> before (s r) behind", r=factor).contiguous()
    else:
        y = rows[:, TAPS[kernel](axis, x).indices[:, 0]]
    return y.view(*before, axis.count, *behind)


def _run_sums(dy: Tensor, dim: int, factor: int) -> Tensor:
    """The sum over each run of `factor` outputs, which all copied one position."""
    runs = dy.reshape(*dy.shape[:dim], dy.shape[dim] // factor, factor, *dy.shape[dim + 1 :])
    if factor > SLICES:
        return runs.sum(dim + 1)
    parts = runs.unbind(dim + 1)
    return sum(parts[2:], start=parts[0] + parts[1])  # slices are added faster than short rows are summed
