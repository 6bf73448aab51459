"""Adaptive average pooling: means over as many windows as are asked for. Theory: docs/adaptive_avg_pool.md."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from ds_core import Module, fast_form, reuse
from ds_core.arguments import check_implementation
from ds_core.errors import check_floating
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.pooling.adaptive_windows import (
    adaptive_window,
    adaptive_windows,
    chosen_size,
    is_regular,
    read_output_size,
    regular_geometry,
)
from ds_cnn.pooling.pool_options import spatial_size
from ds_cnn.pooling.windows import along, at, window_sums, window_sums_backward, zeros_along

# S = spatial sizes of the input, O = of the output


def plain_adaptive_avg_pool(x: Tensor, output_size: Sizes) -> Tensor:
    """x (..., *S), output_size O -> y (..., *O)."""
    axes = len(output_size)
    y = torch.zeros(*x.shape[:-axes], *output_size, dtype=wide_dtype(x), device=x.device)
    for o in itertools.product(*map(range, output_size)):
        positions = positions_of(o, x.shape[-axes:], output_size)
        for i in positions:
            y[at(o)] += x[at(i)].to(y.dtype) / len(positions)  # y_o = sum_i x_i / |W_o|              (1)
    return y.to(x.dtype)


def plain_adaptive_avg_pool_backward(dy: Tensor, input_size: Sizes) -> Tensor:
    """dy (..., *O), input_size S -> dx (..., *S)."""
    axes = len(input_size)
    dx = torch.zeros(*dy.shape[:-axes], *input_size, dtype=wide_dtype(dy), device=dy.device)
    for o in itertools.product(*map(range, dy.shape[-axes:])):
        positions = positions_of(o, input_size, dy.shape[-axes:])
        for i in positions:
            dx[at(i)] += dy[at(o)].to(dx.dtype) / len(positions)  # dx_i = sum_o dy_o / |W_o|         (2)
    return dx.to(dy.dtype)


def positions_of(o: Sizes, size: Sizes, output_size: Sizes) -> list[tuple[int, ...]]:
    """The positions that window o covers, row by row."""
    windows = (adaptive_window(*axis) for axis in zip(o, size, output_size, strict=True))
    return list(itertools.product(*(range(*window) for window in windows)))


# A mean over a rectangle is a mean of means over its rows, all rows being equally long. Global pooling is one sum;
# where O divides S the windows are those of ordinary pooling; otherwise each window is a slice of its own.
@fast_form(plain_adaptive_avg_pool)
def adaptive_avg_pool(x: Tensor, output_size: Sizes) -> Tensor:
    """x (..., *S), output_size O -> y (..., *O)."""
    axes = len(output_size)
    size = tuple(x.shape[-axes:])
    if max(output_size) == 1:
        return x.mean(tuple(range(-axes, 0)), keepdim=True, dtype=wide_dtype(x)).to(x.dtype)
    if is_regular(size, output_size):
        kernel_size, stride, padding = regular_geometry(size, output_size)
        y = x
        for dim, *axis in zip(range(-axes, 0), output_size, kernel_size, stride, padding, strict=True):
            y = window_sums(y, dim, *axis)
        return torch.div(y, math.prod(kernel_size), out=reuse(y)).to(x.dtype)
    y = widened(x)
    for dim, length, count in zip(range(-axes, 0), size, output_size, strict=True):
        means = [along(y, dim, slice(*window)).mean(dim) for window in adaptive_windows(length, count)]
        y = torch.stack(means, dim)
    return y.to(x.dtype)


@fast_form(plain_adaptive_avg_pool_backward)
def adaptive_avg_pool_backward(dy: Tensor, input_size: Sizes) -> Tensor:
    """dy (..., *O), input_size S -> dx (..., *S)."""
    axes = len(input_size)
    output_size = tuple(dy.shape[-axes:])
    if max(output_size) == 1:
        share = widened(dy) / math.prod(input_size)
        return share.to(dy.dtype).expand(*dy.shape[:-axes], *input_size).clone(memory_format=torch.contiguous_format)
    dx = widened(dy)
    if is_regular(input_size, output_size):
        kernel_size, stride, padding = regular_geometry(input_size, output_size)
        dx = dx / math.prod(kernel_size)
        for dim, *axis in reversed(list(zip(range(-axes, 0), input_size, kernel_size, stride, padding, strict=True))):
            dx = window_sums_backward(dx, dim, *axis)
        return dx.to(dy.dtype)
    for dim, length, count in reversed(list(zip(range(-axes, 0), input_size, output_size, strict=True))):
        dwhole = zeros_along(dx, dim, length, dx.dtype)
        for o, (start, end) in enumerate(adaptive_windows(length, count)):
            along(dwhole, dim, slice(start, end)).add_(along(dx, dim, slice(o, o + 1)) / (end - start))
        dx = dwhole
    return dx.to(dy.dtype)


IMPLEMENTATIONS = {
    "vectorized": (adaptive_avg_pool, adaptive_avg_pool_backward),
    "loops": (plain_adaptive_avg_pool, plain_adaptive_avg_pool_backward),
}


class _AdaptiveAvgPool(Module):
    """What adaptive average pooling is, whatever the number of spatial axes."""

    axes: int

    def __init__(
        self, output_size: int | Sequence[int | None] | None, implementation: Literal["vectorized", "loops"]
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.output_size = read_output_size(self, self.axes, output_size)
        self.implementation = implementation

    def forward(self, input: Tensor) -> Tensor:
        size = spatial_size(self, input, self.axes)
        check_floating(self, input=input)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        self.save(size)
        return forward(input, chosen_size(size, self.output_size))

    def backward(self, dy: Tensor | None) -> Tensor | None:
        (input_size,) = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, input_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means over as many windows of a sequence as are asked for.

    Twin of torch.nn.AdaptiveAvgPool1d. Input (N, C, L) or (C, L), output (N, C, P) or (C, P). Arguments and errors are
    those of `AdaptiveAvgPool2d`, with one axis.
    """

    axes = 1

    def __init__(
        self,
        output_size: int | tuple[int | None, ...] | None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(output_size, implementation)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means over as many windows of an image as are asked for, whatever its size.

    Twin of torch.nn.AdaptiveAvgPool2d. Input (N, C, H, W) or (C, H, W), output (N, C, P, Q) or (C, P, Q). With
    `output_size=1` it is the global average pooling of Lin et al., "Network in Network", 2014.

    Args:
        output_size: one number, or (P, Q); None keeps the size of the input.
        implementation: "vectorized", or "loops", window by window as the formula says, for reading.

    Raises:
        ValueError: for an output size below one.
        ShapeError: from `forward`, for an input of another shape, or of integers.
    """

    axes = 2

    def __init__(
        self,
        output_size: int | tuple[int | None, ...] | None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(output_size, implementation)
