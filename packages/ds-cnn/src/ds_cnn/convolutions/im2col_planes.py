"""im2col for few channels: every number of a window becomes a shifted image. Theory: docs/im2col_planes.md."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from ds_core import fast_form, reuse
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.convolutions.chunked import image_chunks, runs_in_chunks
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.plain_convolution import plain_convolution, plain_input_gradient, plain_weight_gradient
from ds_cnn.pooling.windows import kernel_slices

# N = batch, C = input channels, O = output channels, S = size of the input, P = size of the output, K = kernel size.
# A window is a column here, and a row of the matrix is a whole image, shifted by one position of the kernel: rows of
# an image are copied as they lie, whereas a window of few channels is many short runs of numbers.


@fast_form(plain_convolution)
def planes_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (O, C, *K), bias (O,) -> y (N, O, *P), in channels-last memory."""
    check_planes(groups)
    kernel_size = tuple(weight.shape[2:])
    size = output_sizes(x.shape[2:], kernel_size, stride, padding, dilation)
    matrix = weight.flatten(1).T  # (C K, O)
    if not runs_in_chunks(x):
        columns = planes(x, size, kernel_size, stride, padding, dilation)
        return _product(columns.T, matrix, bias).view(len(x), *size, len(weight)).movedim(-1, 1)
    last = x.new_empty(len(x), *size, len(weight))
    for images in image_chunks(x, math.prod(kernel_size) * math.prod(size) * x.shape[1]):
        columns = planes(x[images], size, kernel_size, stride, padding, dilation)
        _product(columns.T, matrix, bias, out=last[images].view(-1, len(weight)))  # Y = X_col^T W^T          (1)
    return last.movedim(-1, 1)


@fast_form(plain_input_gradient)
def planes_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C, *K) -> dx (N, C, *S)."""
    check_planes(groups)
    kernel_size, size = tuple(weight.shape[2:]), tuple(dy.shape[2:])
    matrix, last = weight.flatten(1).T, dy.movedim(1, -1)
    dx = dy.new_zeros(weight.shape[1], len(dy), *input_size, dtype=wide_dtype(dy))
    for images in image_chunks(dy, math.prod(kernel_size) * math.prod(size) * weight.shape[1]):
        dcolumns = matrix @ last[images].reshape(-1, dy.shape[1]).T  # dX_col = W^T dY^T, (C K, N P)          (2)
        parts = dcolumns.view(weight.shape[1], *kernel_size, len(dy[images]), *size)
        for k, outputs, positions in kernel_slices(input_size, size, kernel_size, stride, padding, dilation):
            # dx_{pt - a + kd} += dX_col,kp                                                                   (3)
            index: tuple[Any, ...] = (slice(None), *k, slice(None), *outputs)
            into = (slice(None), images, *positions)
            dx[into].add_(parts[index])
    return dx.transpose(0, 1).to(dy.dtype)


@fast_form(plain_weight_gradient)
def planes_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, *S) -> dweight (O, C, *K)."""
    check_planes(groups)
    size, last = tuple(dy.shape[2:]), dy.movedim(1, -1)
    dmatrix = x.new_zeros(x.shape[1] * math.prod(kernel_size), dy.shape[1])
    for images in image_chunks(x, math.prod(kernel_size) * math.prod(size) * x.shape[1]):
        columns = planes(x[images], size, kernel_size, stride, padding, dilation)
        drows = last[images].reshape(-1, dy.shape[1])
        dmatrix = torch.addmm(dmatrix, columns, drows, out=reuse(dmatrix))  # dW^T = X_col dY                 (4)
    return dmatrix.T.contiguous().view(dy.shape[1], x.shape[1], *kernel_size)


def planes(x: Tensor, size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Tensor:
    """x (N, C, *S) -> (C K, N P): row (c, k) is channel c of all images as kernel position k sees it."""
    padded = x.contiguous()
    if any(padding):
        padded = x.new_zeros(*x.shape[:2], *(s + 2 * p for s, p in zip(x.shape[2:], padding, strict=True)))
        inside = (slice(None), slice(None), *(slice(p, p + s) for p, s in zip(padding, x.shape[2:], strict=True)))
        padded[inside] = x
    n, c, *steps = padded.stride()
    gaps = [step * d for step, d in zip(steps, dilation, strict=True)]
    jumps = [step * s for step, s in zip(steps, stride, strict=True)]
    windows = padded.as_strided((x.shape[1], *kernel_size, len(x), *size), (c, *gaps, n, *jumps))
    return windows.reshape(x.shape[1] * math.prod(kernel_size), len(x) * math.prod(size))


def check_planes(groups: int) -> None:
    """Raise ValueError, saying why, unless the technique fits."""
    if groups != 1:
        raise ValueError(f"im2col_planes: given groups={groups}, expected 1")


def _product(rows: Tensor, matrix: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    return torch.mm(rows, matrix, out=out) if bias is None else torch.addmm(bias, rows, matrix, out=out)
