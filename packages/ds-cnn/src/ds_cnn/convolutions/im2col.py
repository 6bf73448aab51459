"""Convolution as one matrix product: every window of the input becomes a row. Theory: docs/im2col.md."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ds_core import fast_form
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.convolutions.chunked import chunks_of_output, runs_in_chunks
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.plain_convolution import plain_convolution, plain_input_gradient, plain_weight_gradient
from ds_cnn.pooling.windows import kernel_slices

# N = batch, C = input channels, O = output channels, g = groups, S = size of the input, P = size of the output,
# K = kernel size, R = rows: windows that are computed at a time. Inside, channels are the last axis: a window's row is
# then K runs of C/g numbers each. Slices of the batch and of the output's first axis say which windows.


@fast_form(plain_convolution)
def im2col_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (O, C/g, *K), bias (O,) -> y (N, O, *P), in channels-last memory."""
    kernel_size = tuple(weight.shape[2:])
    size = output_sizes(x.shape[2:], kernel_size, stride, padding, dilation)
    matrix = weight_matrix(weight, groups)
    offset = None if bias is None else bias.view(groups, 1, -1)
    if not runs_in_chunks(x):
        whole = windows(pad_channels_last(x, padding), size, kernel_size, stride, dilation, groups)
        y = product(im2col(whole), matrix, offset)  # Y = X_col W                                              (1)
        return y.transpose(0, 1).reshape(len(x), *size, len(weight)).movedim(-1, 1)
    last = x.new_empty(len(x), *size, len(weight))
    for images, rows, part in windows_in_chunks(x, size, kernel_size, stride, padding, dilation, groups):
        product(im2col(part), matrix, offset, out=by_group(last[images, rows], groups))
    return last.movedim(-1, 1)


@fast_form(plain_input_gradient)
def im2col_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C/g, *K) -> dx (N, C, *S), in channels-last memory."""
    kernel_size = tuple(weight.shape[2:])
    if set(stride) == {1}:
        around = tuple(d * (k - 1) - p for k, p, d in zip(kernel_size, padding, dilation, strict=True))
        if min(around) >= 0:
            # dx = dy, padded all around, convolved with the kernel turned round                               (5)
            return im2col_convolution(dy, turned(weight, groups), None, stride, around, dilation, groups)
    matrix = weight_matrix(weight, groups).transpose(1, 2)  # (g, O/g, K C/g)
    channels, size = weight.shape[1], tuple(dy.shape[2:])
    dx = dy.new_zeros(len(dy), *input_size, groups, channels, dtype=wide_dtype(dy))
    whole = (slice(None), slice(None))
    chunks = chunks_of_output(len(dy), size, math.prod(kernel_size) * channels * groups)
    last = dy.movedim(1, -1)
    for images, rows in chunks if runs_in_chunks(dy) else [whole]:
        dcolumns = torch.bmm(by_group(last[images, rows], groups), matrix)  # dX_col = dY W^T                  (2)
        part = dcolumns.view(groups, *last[images, rows].shape[:-1], *kernel_size, channels)
        col2im_(dx[images], part, rows, size, stride, padding, dilation)
    return dx.flatten(-2).to(dy.dtype).movedim(-1, 1)


@fast_form(plain_weight_gradient)
def im2col_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, *S) -> dweight (O, C/g, *K)."""
    size, filters, channels = tuple(dy.shape[2:]), dy.shape[1] // groups, x.shape[1] // groups
    last = dy.movedim(1, -1)
    if runs_in_chunks(x):
        dmatrix = x.new_zeros(groups, math.prod(kernel_size) * channels, filters)
        for images, rows, part in windows_in_chunks(x, size, kernel_size, stride, padding, dilation, groups):
            dmatrix.baddbmm_(im2col(part).transpose(1, 2), by_group(last[images, rows], groups))
    else:
        whole = windows(pad_channels_last(x, padding), size, kernel_size, stride, dilation, groups)
        dmatrix = torch.bmm(im2col(whole).transpose(1, 2), by_group(last, groups))  # dW = X_col^T dY          (3)
    dweight = dmatrix.view(groups, -1, channels, filters).permute(0, 3, 2, 1)  # (g, O/g, C/g, K)
    return dweight.reshape(groups * filters, channels, *kernel_size)


def im2col(part: Tensor) -> Tensor:
    """windows (g, N, *P, *K, C/g) -> columns (g, R, K C/g): one row per window, channels fastest."""
    axes = (part.dim() - 3) // 2
    return part.reshape(len(part), math.prod(part.shape[1 : axes + 2]), math.prod(part.shape[axes + 2 :]))


def windows(last: Tensor, size: Sizes, kernel_size: Sizes, stride: Sizes, dilation: Sizes, groups: int) -> Tensor:
    """Padded images (N, *S + 2p, C) -> (g, N, *P, *K, C/g), a view in which a number appears once per window."""
    channels = last.shape[-1] // groups
    n, *steps, c = last.stride()
    shape = (groups, len(last), *size, *kernel_size, channels)
    jumps = [step * s for step, s in zip(steps, stride, strict=True)]
    gaps = [step * d for step, d in zip(steps, dilation, strict=True)]
    return last.as_strided(shape, (c * channels, n, *jumps, *gaps, c))


def windows_in_chunks(
    x: Tensor, size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Which images and which rows of the output, and their windows."""
    before, padded = slice(0, 0), x
    for images, rows in chunks_of_output(len(x), size, math.prod(kernel_size) * x.shape[1]):
        if images != before:
            before, padded = images, pad_channels_last(x[images], padding)
        part = windows(padded, size, kernel_size, stride, dilation, groups)
        yield images, rows, part[:, :, rows]


def col2im_(
    dx: Tensor, dcolumns: Tensor, rows: slice, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> None:
    """dcolumns (g, N, *P, *K, C/g) are added to dx (N, *S, g, C/g): each window gives its row back to what it saw."""
    axes = len(size)
    part = dcolumns.movedim(0, -2)  # (N, *P, *K, g, C/g)
    first = rows.start or 0
    shifted = (padding[0] - first * stride[0], *padding[1:])  # as if the first window of these rows were number 0
    counts = part.shape[1 : axes + 1]
    kernel_size = part.shape[axes + 1 : 2 * axes + 1]
    for k, seeing, positions in kernel_slices(dx.shape[1:-2], counts, kernel_size, stride, shifted, dilation):
        # dx_{pt - a + kd} += dX_col,pk                                                                        (4)
        index: tuple[Any, ...] = (slice(None), *seeing, *k)
        into = (slice(None), *positions)
        dx[into].add_(part[index])


def pad_channels_last(x: Tensor, padding: Sizes) -> Tensor:
    """x (N, C, *S) -> (N, *S + 2p, C), zeros around it; x itself, its channels moved, if there is no padding."""
    last = x.movedim(1, -1)
    if not any(padding):
        return last.contiguous()
    sizes = [size + 2 * p for size, p in zip(x.shape[2:], padding, strict=True)]
    padded = x.new_zeros(len(x), *sizes, x.shape[1])
    inside = (slice(None), *(slice(p, p + size) for p, size in zip(padding, x.shape[2:], strict=True)))
    padded[inside] = last
    return padded


def weight_matrix(weight: Tensor, groups: int) -> Tensor:
    """weight (O, C/g, *K) -> (g, K C/g, O/g), rows in the order of a window's row."""
    by_filter = weight.flatten(2).view(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))  # (g, O/g, C/g, K)
    return by_filter.permute(0, 3, 2, 1).reshape(groups, -1, weight.shape[0] // groups)


def turned(weight: Tensor, groups: int) -> Tensor:
    """weight (O, C/g, *K) -> (C, O/g, *K), the kernel turned round, inputs and outputs exchanged."""
    shape = (groups, weight.shape[0] // groups, *weight.shape[1:])
    exchanged = weight.reshape(shape).transpose(1, 2).flatten(0, 1)
    return exchanged.flip(list(range(2, weight.dim())))


def by_group(last: Tensor, groups: int) -> Tensor:
    """(N, *P, O) -> (g, N P, O/g), a view if it can be."""
    return last.reshape(-1, groups, last.shape[-1] // groups).transpose(0, 1)


def product(columns: Tensor, matrix: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """columns (g, R, K C/g), matrix (g, K C/g, O/g), bias (g, 1, O/g) -> (g, R, O/g)."""
    return torch.bmm(columns, matrix, out=out) if bias is None else torch.baddbmm(bias, columns, matrix, out=out)
