"""Grouped convolution, few channels a group: neighbouring groups share a product. Theory: docs/merged_groups.md."""

from collections.abc import Sequence

from ds_core import fast_form
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.convolutions.im2col import im2col_convolution, im2col_input_gradient, im2col_weight_gradient
from ds_cnn.convolutions.plain_convolution import plain_convolution, plain_input_gradient, plain_weight_gradient

# N = batch, C = input channels, O = output channels, g = groups, h = groups after merging, m = g / h, S = size of the
# input, P = size of the output, K = kernel size

MERGED = 32  # channels of a merged group at most, by trial: more zeros cost more than larger products gain


@fast_form(plain_convolution)
def merged_groups_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (O, C/g, *K), bias (O,) -> y (N, O, *P), in channels-last memory."""
    merged = check_merged_groups(x.shape[1], groups)
    return im2col_convolution(x, merge(weight, groups, merged), bias, stride, padding, dilation, merged)


@fast_form(plain_input_gradient)
def merged_groups_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C/g, *K) -> dx (N, C, *S), in channels-last memory."""
    merged = check_merged_groups(weight.shape[1] * groups, groups)
    return im2col_input_gradient(dy, merge(weight, groups, merged), input_size, stride, padding, dilation, merged)


@fast_form(plain_weight_gradient)
def merged_groups_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, *S) -> dweight (O, C/g, *K)."""
    merged = check_merged_groups(x.shape[1], groups)
    dweight = im2col_weight_gradient(dy, x, kernel_size, stride, padding, dilation, merged)
    own = _own_blocks(dweight, groups, merged)  # zeros outside them are no parameters                         (2)
    return own.movedim(-1, 1).reshape(dy.shape[1], x.shape[1] // groups, *kernel_size)


def merge(weight: Tensor, groups: int, merged: int) -> Tensor:
    """weight (O, C/g, *K) -> (O, C/h, *K): zeros where an input channel is of another group than the filter."""
    filters, channels, *kernel_size = weight.shape
    whole = weight.new_zeros(filters, channels * (groups // merged), *kernel_size)
    by_group = weight.view(merged, groups // merged, filters // groups, channels, *kernel_size)
    _own_blocks(whole, groups, merged).copy_(by_group.movedim(1, -1))  #                                       (1)
    return whole


def _own_blocks(whole: Tensor, groups: int, merged: int) -> Tensor:
    """(O, C/h, *K) -> (h, O/g, C/g, *K, m), a view of what filters see of their own group."""
    together = groups // merged
    shape = (merged, together, len(whole) // groups, together, whole.shape[1] // together, *whole.shape[2:])
    return whole.view(shape).diagonal(0, 1, 3)


def merged_groups(channels: int, groups: int) -> int:
    """How few groups there are once they have `MERGED` channels each, or as close to it as divides the groups."""
    for merged in range(1, groups):
        if groups % merged == 0 and channels <= merged * MERGED:
            return merged
    return groups


def check_merged_groups(channels: int, groups: int) -> int:
    """`merged_groups`; raises ValueError, saying why, unless the technique fits."""
    merged = merged_groups(channels, groups)
    if merged == groups:
        raise ValueError(
            f"merged_groups: given channels={channels} and groups={groups}, expected groups of which several have at "
            f"most {MERGED} channels together"
        )
    return merged
