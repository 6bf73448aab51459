"""Windows that slide along an axis: how many there are, what each covers, their sums. Theory: docs/windows.md."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ds_core import fast_form
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.convolutions.geometry import output_size

# S = size of the axis, O = number of windows, K = kernel size, s = stride, p = padding, d = dilation.
# Window o covers the positions o s - p + k d, k = 0 ... K - 1; those outside 0 ... S - 1 are padding. Sums have d = 1.


def plain_window_sums(x: Tensor, dim: int, count: int, kernel: int, stride: int, padding: int) -> Tensor:
    """x (..., S, ...) -> y (..., O, ...), on `dim`."""
    x = x.to(wide_dtype(x)).transpose(dim, -1)
    y = torch.zeros(*x.shape[:-1], count, dtype=x.dtype, device=x.device)
    for o in range(count):
        for k in range(kernel):
            if 0 <= o * stride - padding + k < x.shape[-1]:
                y[..., o] += x[..., o * stride - padding + k]  # y_o = sum_k x_{os - p + k}               (2)
    return y.transpose(dim, -1)


def plain_window_sums_backward(dy: Tensor, dim: int, size: int, kernel: int, stride: int, padding: int) -> Tensor:
    """dy (..., O, ...) -> dx (..., S, ...), on `dim`."""
    dy = dy.to(wide_dtype(dy)).transpose(dim, -1)
    dx = torch.zeros(*dy.shape[:-1], size, dtype=dy.dtype, device=dy.device)
    for o in range(dy.shape[-1]):
        for k in range(kernel):
            if 0 <= o * stride - padding + k < size:
                dx[..., o * stride - padding + k] += dy[..., o]  # dx_i = sum of dy_o, os - p + k = i     (3)
    return dx.transpose(dim, -1)


def at(position: tuple[int | slice, ...]) -> tuple[Any, ...]:
    """The index of one position, or of slices, in all examples and channels: `x[at((h, w))]` is `x[..., h, w]`."""
    return (..., *position)


def covered_positions(
    window: Sequence[int],
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """What one window of an image covers, row by row: pairs of offset k in the window and position in the image."""
    starts = [o * s - p for o, s, p in zip(window, stride, padding, strict=True)]
    pairs = []
    for offset in itertools.product(*(range(kernel) for kernel in kernel_size)):
        position = tuple(start + k * d for start, k, d in zip(starts, offset, dilation, strict=True))
        if all(0 <= i < end for i, end in zip(position, size, strict=True)):  # else it is padding
            pairs.append((offset, position))
    return pairs


def window_count(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool = False, dilation: int = 1) -> int:
    """O, the number of windows; with `ceil_mode` also one that sticks out, if it starts before the far padding."""
    if not ceil_mode:
        # O = floor((S + 2p - d(K - 1) - 1) / s) + 1                                                      (1)
        return output_size(size, kernel, stride, padding, dilation)
    last_start = size + 2 * padding - dilation * (kernel - 1) - 1  # of a window that ends inside the padded axis
    count = -(-last_start // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def window_lengths(
    size: int, count: int, kernel: int, stride: int, padding: int, include_padding: bool, like: Tensor
) -> Tensor:
    """How many positions each window covers, (O,), in the dtype and on the device of `like`.

    Padding counts or not; what lies beyond it, where the last window sticks out, never does.
    """
    start = torch.arange(count, device=like.device) * stride - padding
    end = torch.clamp(start + kernel, max=size + padding)
    if not include_padding:
        start, end = torch.clamp(start, min=0), torch.clamp(end, max=size)
    return (end - start).to(like.dtype)


# All windows at once: for each k a slice of the axis is added. Half precision is summed in float32.
@fast_form(plain_window_sums)
def window_sums(x: Tensor, dim: int, count: int, kernel: int, stride: int, padding: int) -> Tensor:
    """x (..., S, ...) -> y (..., O, ...): y_o = sum_k x_{os - p + k}, on `dim`.

    Sums of bfloat16 and float16 are taken, and given, in float32: here and in backward.
    """
    y = zeros_along(x, dim, count, wide_dtype(x))
    for _, windows, positions in offsets(x.shape[dim], count, kernel, stride, padding):
        along(y, dim, windows).add_(along(x, dim, positions))  # y_o += x_{os - p + k}                       (2)
    return y


@fast_form(plain_window_sums_backward)
def window_sums_backward(dy: Tensor, dim: int, size: int, kernel: int, stride: int, padding: int) -> Tensor:
    """dy (..., O, ...) -> dx (..., S, ...)."""
    dx = zeros_along(dy, dim, size, wide_dtype(dy))
    for _, windows, positions in offsets(size, dy.shape[dim], kernel, stride, padding):
        along(dx, dim, positions).add_(along(dy, dim, windows))  # dx_{os - p + k} += dy_o                   (3)
    return dx


def offsets(
    size: int, count: int, kernel: int, stride: int, padding: int, dilation: int = 1
) -> list[tuple[int, slice, slice]]:
    """For each k: k itself, the windows whose position k is no padding, and these positions."""
    found = []
    for k in range(kernel):
        offset = k * dilation - padding
        first = max(0, -(offset // stride))
        last = min(count - 1, (size - 1 - offset) // stride)
        if first <= last:
            start = first * stride + offset
            found.append((k, slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)))
    return found


def kernel_slices(
    input_size: Sequence[int],
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """For each kernel position k, on all axes: the outputs that see no padding through it, and what they see."""
    axes = zip(input_size, output_size, kernel_size, stride, padding, dilation, strict=True)
    for per_axis in itertools.product(*(offsets(*axis) for axis in axes)):
        k, outputs, positions = zip(*per_axis, strict=True)
        yield k, outputs, positions


def along(x: Tensor, dim: int, index: slice) -> Tensor:
    """`x[index]` on `dim`, a view."""
    return x[(slice(None),) * (dim % x.dim()) + (index,)]


def pick(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """`torch.index_select`, but the axes stay in memory in the order of those of `x`."""
    order = memory_order(x)
    found = x.permute(order).index_select(order.index(dim % x.dim()), index)
    return found.permute([order.index(axis) for axis in range(x.dim())])


def zeros_along(x: Tensor, dim: int, size: int, dtype: torch.dtype) -> Tensor:
    """Zeros in the shape and memory order of `x`, but for `size` positions on `dim`."""
    return empty_along(x, dim, size, dtype).zero_()


def empty_along(x: Tensor, dim: int, size: int, dtype: torch.dtype) -> Tensor:
    """Memory in the shape of `x`, but for `size` positions on `dim`; the axes lie in it in the order of those of `x`.

    Mixed orders cost: adding a contiguous image to one with its channels last takes three times as long.
    """
    shape = list(x.shape)
    shape[dim] = size
    if torch.compiler.is_compiling():
        return torch.empty(shape, dtype=dtype, device=x.device)  # the compiler orders axes itself
    order = memory_order(x)
    memory = torch.empty([shape[axis] for axis in order], dtype=dtype, device=x.device)
    return memory.permute([order.index(axis) for axis in range(x.dim())])


def memory_order(x: Tensor) -> list[int]:
    """The axes of `x` from the one with the longest step in memory to the one with the shortest."""
    return sorted(range(x.dim()), key=lambda axis: -x.stride()[axis])
