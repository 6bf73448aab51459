"""Windows that slide along an axis: how many there are, what each covers, their sums. Theory: docs/windows.md."""

from collections.abc import Sequence

import torch
from ds_core import fast_form
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

# S = size of the axis, O = number of windows, K = kernel size, s = stride, p = padding.
# Window o covers the positions o s - p ... o s - p + K - 1; those outside 0 ... S - 1 are padding.


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


def pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """(height, width) from one number for both, or from two.

    Raises:
        ValueError: there are neither one nor two.
    """
    values = (value,) if isinstance(value, int) else tuple(value)
    if len(values) not in (1, 2):
        raise ValueError(f"{name}: given {value}, expected one int, or two for height and width")
    return values[0], values[-1]


def window_count(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool = False) -> int:
    """O, the number of windows; with `ceil_mode` also one that sticks out, if it starts before the far padding."""
    last_start = size + 2 * padding - kernel  # of a window that ends inside the padded axis
    if not ceil_mode:
        return last_start // stride + 1  # O = floor((S + 2p - K) / s) + 1                                (1)
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
    """x (..., S, ...) -> y (..., O, ...): y_o = sum_k x_{os - p + k}, on `dim`, which is -1 or -2.

    Sums of bfloat16 and float16 are taken, and given, in float32: here and in backward.
    """
    shape = list(x.shape)
    shape[dim] = count
    y = widened(torch.zeros(shape, dtype=x.dtype, device=x.device))
    for windows, positions in _inside(x.shape[dim], count, kernel, stride, padding):
        _on(y, dim, windows).add_(_on(x, dim, positions))  # y_o += x_{os - p + k}                           (2)
    return y


@fast_form(plain_window_sums_backward)
def window_sums_backward(dy: Tensor, dim: int, size: int, kernel: int, stride: int, padding: int) -> Tensor:
    """dy (..., O, ...) -> dx (..., S, ...)."""
    shape = list(dy.shape)
    shape[dim] = size
    dx = widened(torch.zeros(shape, dtype=dy.dtype, device=dy.device))
    for windows, positions in _inside(size, dy.shape[dim], kernel, stride, padding):
        _on(dx, dim, positions).add_(_on(dy, dim, windows))  # dx_{os - p + k} += dy_o                       (3)
    return dx


def _inside(size: int, count: int, kernel: int, stride: int, padding: int) -> list[tuple[slice, slice]]:
    """For each k: the windows whose position k is no padding, and these positions."""
    slices = []
    for k in range(kernel):
        first = max(0, -(-(padding - k) // stride))
        last = min(count - 1, (size - 1 + padding - k) // stride)
        if first <= last:
            start = first * stride - padding + k
            slices.append((slice(first, last + 1), slice(start, start + (last - first) * stride + 1, stride)))
    return slices


def _on(x: Tensor, dim: int, index: slice) -> Tensor:
    return x[..., index] if dim == -1 else x[..., index, :]
