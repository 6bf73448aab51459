"""3 x 3 convolution in tiles, with fewer multiplications (Winograd). Theory: docs/winograd.md."""

from collections.abc import Sequence

import torch
from ds_core import fast_form
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.convolutions.plain_convolution import plain_convolution, plain_input_gradient, plain_weight_gradient
from ds_cnn.convolutions.winograd_tiles import (
    convolved_tiles,
    input_at_points,
    output_gradient_at_points,
    tile_chunks,
    transformed_weight,
    weight_gradient_from_points,
)

# N = batch, C = input channels, O = output channels, P = size of the output, t = outputs of a tile along an axis,
# r = t + 2 = points. Channels are last in memory, in what comes out and inside.


@fast_form(plain_convolution)
def winograd_2x2_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, H, W), weight (O, C, 3, 3), bias (O,) -> y (N, O, *P), by F(2 x 2, 3 x 3)."""
    check_winograd(tuple(weight.shape), stride, padding, dilation, groups)
    return _convolution(x, weight, bias, padding, 2)


@fast_form(plain_input_gradient)
def winograd_2x2_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C, 3, 3) -> dx (N, C, H, W), by F(2 x 2, 3 x 3)."""
    check_winograd(tuple(weight.shape), stride, padding, dilation, groups)
    return _input_gradient(dy, weight, padding, 2)


@fast_form(plain_weight_gradient)
def winograd_2x2_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, H, W) -> dweight (O, C, 3, 3), by the transpose of F(2 x 2, 3 x 3)."""
    check_winograd((dy.shape[1], x.shape[1], *kernel_size), stride, padding, dilation, groups)
    return _weight_gradient(dy, x, padding, 2)


@fast_form(plain_convolution)
def winograd_4x4_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, H, W), weight (O, C, 3, 3), bias (O,) -> y (N, O, *P), by F(4 x 4, 3 x 3)."""
    check_winograd(tuple(weight.shape), stride, padding, dilation, groups)
    return _convolution(x, weight, bias, padding, 4)


@fast_form(plain_input_gradient)
def winograd_4x4_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C, 3, 3) -> dx (N, C, H, W), by F(4 x 4, 3 x 3)."""
    check_winograd(tuple(weight.shape), stride, padding, dilation, groups)
    return _input_gradient(dy, weight, padding, 4)


@fast_form(plain_weight_gradient)
def winograd_4x4_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, H, W) -> dweight (O, C, 3, 3), by the transpose of F(4 x 4, 3 x 3)."""
    check_winograd((dy.shape[1], x.shape[1], *kernel_size), stride, padding, dilation, groups)
    return _weight_gradient(dy, x, padding, 4)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, padding: Sizes, tile: int) -> Tensor:
    points = transformed_weight(weight, tile).transpose(1, 2)  # (r^2, C, O)
    return convolved_tiles(x, points, bias, padding, tile)


def _input_gradient(dy: Tensor, weight: Tensor, padding: Sizes, tile: int) -> Tensor:
    points = transformed_weight(weight, tile, turned=True)  # (r^2, O, C)
    return convolved_tiles(dy, points, None, tuple(2 - p for p in padding), tile)


def _weight_gradient(dy: Tensor, x: Tensor, padding: Sizes, tile: int) -> Tensor:
    filters, channels = dy.shape[1], x.shape[1]
    dpoints: Tensor | None = None
    for images, rows, across in tile_chunks(x, dy.shape[2:], max(filters, channels), tile):
        inputs = input_at_points(x[images], rows, across, padding, tile)
        outputs = output_gradient_at_points(dy[images], rows, across, tile).transpose(1, 2)
        # dU_ij = dM_ij^T V_ij, summed over the tiles of every chunk                                          (11)
        if dpoints is None:
            dpoints = torch.bmm(outputs, inputs)
        else:
            dpoints.baddbmm_(outputs, inputs)
    if dpoints is None:  # an empty batch
        return x.new_zeros(filters, channels, 3, 3)
    return weight_gradient_from_points(dpoints, tile)  # dw = G^T dU G                                        (12)


def check_winograd(weight_shape: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> None:
    """Raise ValueError, saying why, unless the technique fits."""
    if weight_shape[2:] != (3, 3) or {*stride, *dilation, groups} != {1} or not all(0 <= p <= 2 for p in padding):
        raise ValueError(
            f"winograd: given kernel_size={weight_shape[2:]}, stride={stride}, padding={padding}, "
            f"dilation={dilation}, groups={groups}, expected 3 x 3, stride, dilation and groups of 1, padding up to 2"
        )
