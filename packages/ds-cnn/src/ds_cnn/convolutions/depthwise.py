"""Convolution of each channel by itself: shifted images times one number per channel. Theory: docs/depthwise.md."""

import math
from collections.abc import Iterator, Sequence

from ds_core import fast_form
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

from ds_cnn.convolutions.chunked import image_chunks
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.plain_convolution import plain_convolution, plain_input_gradient, plain_weight_gradient
from ds_cnn.convolutions.pointwise import is_channels_last
from ds_cnn.pooling.windows import kernel_slices

# N = batch, C = input channels = groups, m = filters per channel, O = C m = output channels, S = size of the input,
# P = size of the output, K = kernel size. The channels may lie in memory first or last: results follow the input.

CHUNK = 2**20  # numbers of an output at a time, by trial: it is added to K times, and should still be in the cache


@fast_form(plain_convolution)
def depthwise_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (C m, 1, *K), bias (C m,) -> y (N, C m, *P), in the memory order of x."""
    check_depthwise(tuple(weight.shape), groups)
    kernel_size = tuple(weight.shape[2:])
    size = output_sizes(x.shape[2:], kernel_size, stride, padding, dilation)
    start = weight.new_zeros(len(weight)) if bias is None else bias
    start = start.view(-1, *[1] * len(stride))
    y = _empty(x, (len(x), len(weight), *size))
    by_position = _by_position(weight, y)
    for images in image_chunks(x, math.prod(y.shape[1:]), CHUNK):
        seen, sums = _repeated(widened(x[images]), len(weight)), y[images]
        sums.copy_(start.expand_as(sums))
        for k, outputs, positions in _seen(x.shape[2:], size, kernel_size, stride, padding, dilation):
            # y_np += x_{n, pt - a + kd} w_k                                                                  (1)
            sums[outputs].addcmul_(seen[positions], by_position[k][..., outputs[-1]])
    return y.to(x.dtype)


@fast_form(plain_input_gradient)
def depthwise_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, C m, *P), weight (C m, 1, *K) -> dx (N, C, *S), in the memory order of dy."""
    check_depthwise(tuple(weight.shape), groups)
    dx = _empty(dy, (len(dy), len(weight), *input_size)).zero_()
    by_position = _by_position(weight, dy)
    for images in image_chunks(dy, math.prod(dx.shape[1:]), CHUNK):
        dsums, wide = dx[images], widened(dy[images])
        for k, outputs, positions in _seen(
            input_size, tuple(dy.shape[2:]), tuple(weight.shape[2:]), stride, padding, dilation
        ):
            # dx_{n, pt - a + kd} += dy_np w_k                                                                (2)
            dsums[positions].addcmul_(wide[outputs], by_position[k][..., outputs[-1]])
    if len(weight) > groups:
        dx = _summed(dx, groups)  # one channel went into m filters                                           (3)
    return dx.to(dy.dtype)


@fast_form(plain_weight_gradient)
def depthwise_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, C m, *P), x (N, C, *S) -> dweight (C m, 1, *K)."""
    check_depthwise((dy.shape[1], x.shape[1] // groups, *kernel_size), groups)
    dweight = dy.new_zeros(*kernel_size, dy.shape[1], dtype=wide_dtype(dy))
    rest = [0, *range(2, dy.dim())]
    for images in image_chunks(x, math.prod(dy.shape[1:]), CHUNK):
        seen, wide = _repeated(widened(x[images]), dy.shape[1]), widened(dy[images])
        for k, outputs, positions in _seen(x.shape[2:], tuple(dy.shape[2:]), kernel_size, stride, padding, dilation):
            # dw_k += sum_np dy_np x_{n, pt - a + kd}                                                         (4)
            dweight[k] += (seen[positions] * wide[outputs]).sum(rest)
    return dweight.movedim(-1, 0).unsqueeze(1).to(dy.dtype).contiguous()


def check_depthwise(weight_shape: Sizes, groups: int) -> None:
    """Raise ValueError, saying why, unless the technique fits."""
    if weight_shape[1] != 1 or groups == 0:
        raise ValueError(f"depthwise: given weight of shape {weight_shape}, expected one input channel per group")


def _seen(
    input_size: Sequence[int], size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """`kernel_slices` with all images and channels."""
    whole = (slice(None), slice(None))
    for k, outputs, positions in kernel_slices(input_size, size, kernel_size, stride, padding, dilation):
        yield k, (*whole, *outputs), (*whole, *positions)


def _by_position(weight: Tensor, like: Tensor) -> Tensor:
    """weight (O, 1, *K) -> (*K, O, 1 ..., Q), Q the last axis of `like`: repeated along it if channels are last.

    A row of positions is then one run of numbers in the image and in the weight, rather than many runs of O numbers.
    """
    axes = weight.dim() - 2
    each = weight[:, 0].movedim(0, -1)  # (*K, O)
    each = each.view(*each.shape, *[1] * axes)
    if not is_channels_last(like):
        return each.contiguous().expand(*each.shape[:-1], like.shape[-1])
    each = each.expand(*each.shape[:-1], like.shape[-1])
    return each.movedim(axes, -1).contiguous().movedim(-1, axes)


def _repeated(x: Tensor, filters: int) -> Tensor:
    """x (N, C, *S) -> (N, C m, *S): each channel once for each of its filters; x itself if it has one."""
    if x.shape[1] == filters:
        return x
    each = filters // x.shape[1]
    return x.unsqueeze(2).expand(-1, -1, each, *[-1] * (x.dim() - 2)).flatten(1, 2)


def _summed(x: Tensor, channels: int) -> Tensor:
    """x (N, C m, *S) -> (N, C, *S), in the same memory order."""
    if not is_channels_last(x):
        return x.reshape(len(x), channels, x.shape[1] // channels, *x.shape[2:]).sum(2)
    return x.movedim(1, -1).reshape(len(x), *x.shape[2:], channels, x.shape[1] // channels).sum(-1).movedim(-1, 1)


def _empty(like: Tensor, shape: Sizes) -> Tensor:
    """Memory for sums in that shape, channels where `like` has them."""
    if not is_channels_last(like):
        return like.new_empty(shape, dtype=wide_dtype(like))
    return like.new_empty(shape[0], *shape[2:], shape[1], dtype=wide_dtype(like)).movedim(-1, 1)
