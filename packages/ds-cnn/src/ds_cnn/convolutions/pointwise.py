"""Convolution with kernels of one position: a product over channels, nothing copied. Theory: docs/pointwise.md."""

import math
from collections.abc import Sequence

import torch
from ds_core import fast_form
from ds_core.speed.precision import widened
from torch import Tensor

from ds_cnn.convolutions.chunked import runs_in_chunks
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.plain_convolution import plain_convolution, plain_input_gradient, plain_weight_gradient

# N = batch, C = input channels, O = output channels, S = size of the input, P = size of the output. An image is a
# matrix of C rows in the usual memory, and one of C columns if its channels are last: both are multiplied as they lie.


@fast_form(plain_convolution)
def pointwise_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (O, C, 1 ...), bias (O,) -> y (N, O, *P), in the memory order of x."""
    check_pointwise(tuple(weight.shape[2:]), padding, groups)
    matrix = weight.flatten(1)  # (O, C)
    size = output_sizes(x.shape[2:], tuple(weight.shape[2:]), stride, padding, dilation)
    seen = _strided(x, stride)
    if is_channels_last(x):
        rows = seen.movedim(1, -1).reshape(-1, x.shape[1])  # (N P, C)
        y = rows @ matrix.T if bias is None else torch.addmm(bias, rows, matrix.T)  # Y = X W^T + b           (1)
        return y.view(len(x), *size, len(weight)).movedim(-1, 1)
    planes, each = seen.flatten(2), matrix.expand(len(x), -1, -1)  # (N, C, P), (N, O, C)
    y = each @ planes if bias is None else torch.baddbmm(bias[:, None], each, planes)  # Y_n = W X_n + b      (2)
    return y.view(len(x), len(weight), *size)


@fast_form(plain_input_gradient)
def pointwise_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C, 1 ...) -> dx (N, C, *S), in the memory order of dy."""
    back = weight.transpose(0, 1)  # (C, O, 1 ...)
    ones = (1,) * len(stride)
    check_pointwise(tuple(weight.shape[2:]), padding, groups)
    dseen = pointwise_convolution(dy, back, None, ones, padding, ones, 1)  # dX = dY W                        (3)
    if set(stride) == {1}:
        return dseen
    if is_channels_last(dy):
        dx = dy.new_zeros(len(dy), *input_size, weight.shape[1]).movedim(-1, 1)
    else:
        dx = dy.new_zeros(len(dy), weight.shape[1], *input_size)
    _strided(dx, stride).copy_(dseen)  # positions between the steps are seen by no output
    return dx


@fast_form(plain_weight_gradient)
def pointwise_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, *S) -> dweight (O, C, 1 ...)."""
    check_pointwise(kernel_size, padding, groups)
    seen = _strided(x, stride)
    if is_channels_last(x) and is_channels_last(dy):
        drows = dy.movedim(1, -1).reshape(-1, dy.shape[1])  # (N P, O)
        dmatrix = drows.T @ seen.movedim(1, -1).reshape(-1, x.shape[1])  # dW = dY^T X                        (4)
    elif runs_in_chunks(x):
        dmatrix = x.new_zeros(dy.shape[1], x.shape[1])
        for dplanes, planes in zip(dy.flatten(2), seen.flatten(2), strict=True):
            dmatrix.addmm_(dplanes, planes.T)  # dW = sum_n dY_n X_n^T                                        (5)
    else:
        dmatrix = widened(dy.flatten(2) @ seen.flatten(2).transpose(1, 2)).sum(0).to(x.dtype)
    return dmatrix.view(*dmatrix.shape, *kernel_size)


def check_pointwise(kernel_size: Sizes, padding: Sizes, groups: int) -> None:
    """Raise ValueError, saying why, unless the technique fits."""
    if math.prod(kernel_size) != 1 or any(padding) or groups != 1:
        raise ValueError(
            f"pointwise: given kernel_size={kernel_size}, padding={padding}, groups={groups}, expected kernels of one "
            "position, no padding and one group"
        )


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of x (N, C, *S) are neighbours in memory, and its positions are not."""
    return x.stride(1) == 1 and (x.stride(-1) != 1 or math.prod(x.shape[2:]) == 1)


def _strided(x: Tensor, stride: Sizes) -> Tensor:
    """The positions that outputs see: every s-th."""
    index = (slice(None), slice(None), *(slice(None, None, s) for s in stride))
    return x if set(stride) == {1} else x[index]
