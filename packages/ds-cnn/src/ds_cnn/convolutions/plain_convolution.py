"""Convolution as its definition says it, product by product. Theory: docs/plain_convolution.md."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.pooling.windows import covered_positions

# N = batch, C = input channels, O = output channels, g = groups, S = size of the input, P = size of the output,
# K = kernel size; S, P and K are one number per spatial axis, as are s, p, k, positions on these axes

Index = tuple[int, ...]


def plain_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (O, C/g, *K), bias (O,) -> y (N, O, *P)."""
    size = output_sizes(x.shape[2:], tuple(weight.shape[2:]), stride, padding, dilation)
    y = torch.zeros(len(x), len(weight), *size, dtype=wide_dtype(x), device=x.device)
    for at_y, at_x, at_w in products(y.shape, x.shape, weight.shape, stride, padding, dilation, groups):
        y[at_y] += x[at_x] * weight[at_w]  # y_nop = sum_ck x_ncs w_ock,  s = p stride - padding + k dilation    (1)
    if bias is not None:
        for o in range(len(weight)):
            y[:, o] += bias[o]  # y_nop <- y_nop + b_o                                                           (2)
    return y.to(x.dtype)


def plain_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C/g, *K) -> dx (N, C, *S)."""
    shape = (len(dy), weight.shape[1] * groups, *input_size)
    dx = torch.zeros(shape, dtype=wide_dtype(dy), device=dy.device)
    for at_y, at_x, at_w in products(dy.shape, shape, weight.shape, stride, padding, dilation, groups):
        dx[at_x] += dy[at_y] * weight[at_w]  # dx_ncs = sum_op dy_nop w_ock                                      (3)
    return dx.to(dy.dtype)


def plain_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, *S) -> dweight (O, C/g, *K)."""
    shape = (dy.shape[1], x.shape[1] // groups, *kernel_size)
    dweight = torch.zeros(shape, dtype=wide_dtype(dy), device=dy.device)
    for at_y, at_x, at_w in products(dy.shape, x.shape, shape, stride, padding, dilation, groups):
        dweight[at_w] += dy[at_y] * x[at_x]  # dw_ock = sum_np dy_nop x_ncs                                      (4)
    return dweight.to(dy.dtype)


def plain_bias_gradient(dy: Tensor) -> Tensor:
    """dy (N, O, *P) -> dbias (O,)."""
    dbias = torch.zeros(dy.shape[1], dtype=wide_dtype(dy), device=dy.device)
    for at_y in positions(dy.shape):
        dbias[at_y[1]] += dy[at_y]  # db_o = sum_np dy_nop                                                       (5)
    return dbias.to(dy.dtype)


def products(
    output_shape: Sequence[int],
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Iterator[tuple[Index, Index, Index]]:
    """Every product x_ncs w_ock of a convolution, as the indices of (y, x, w); those with padding are left out."""
    channels, filters = weight_shape[1], weight_shape[0] // groups  # of one group
    for n in range(output_shape[0]):
        for o in range(weight_shape[0]):
            first = o // filters * channels  # the first input channel of the group that filter o belongs to
            for p in positions(output_shape[2:]):
                for c in range(channels):
                    for k, s in covered_positions(p, input_shape[2:], weight_shape[2:], stride, padding, dilation):
                        yield (n, o, *p), (n, first + c, *s), (o, c, *k)


def positions(size: Sequence[int]) -> Iterator[Index]:
    """Every index of a tensor of that size, the last axis fastest."""
    return itertools.product(*map(range, size))


class Step(NamedTuple):
    """One product of a convolution.

    Attributes:
        at_y, at_x, at_w: indices into y (N, O, *P), x (N, C, *S) and the weight (O, C/g, *K).
        window: what the filter sees there, (C/g, *K), zeros in the padding.
        kernel: the filter, (C/g, *K).
        product: of the two numbers.
        total: the sum of the products at this output so far, the bias included.
    """

    at_y: Index
    at_x: Index
    at_w: Index
    window: Tensor
    kernel: Tensor
    product: float
    total: float


def convolution_steps(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = (1, 1),
    padding: Sizes = (0, 0),
    dilation: Sizes = (1, 1),
    groups: int = 1,
) -> Iterator[Step]:
    """A convolution to watch: every product in turn, with the sum that it adds to. Shapes as for `plain_convolution`.

    for step in convolution_steps(image, weight):
        print(step.at_y, step.product, step.total)
    """
    size = output_sizes(x.shape[2:], tuple(weight.shape[2:]), stride, padding, dilation)
    shape = (len(x), len(weight), *size)
    seen: Index | None = None
    window, total = x, 0.0
    for at_y, at_x, at_w in products(shape, x.shape, weight.shape, stride, padding, dilation, groups):
        if at_y != seen:
            seen, total = at_y, 0.0 if bias is None else float(bias[at_y[1]])
            window = window_at(x, weight.shape, at_y, stride, padding, dilation, groups)
        product = float(x[at_x]) * float(weight[at_w])
        total += product
        yield Step(at_y, at_x, at_w, window, weight[at_y[1]].detach(), product, total)


def window_at(
    x: Tensor, weight_shape: Sequence[int], at_y: Index, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """What the filter of output `at_y` sees of x, (C/g, *K), zeros in the padding."""
    window = torch.zeros(tuple(weight_shape[1:]), dtype=x.dtype, device=x.device)
    n, o, *p = at_y
    filters = weight_shape[0] // groups
    for c in range(weight_shape[1]):
        for k, s in covered_positions(p, x.shape[2:], weight_shape[2:], stride, padding, dilation):
            at_window, at_x = (c, *k), (n, o // filters * weight_shape[1] + c, *s)
            window[at_window] = x[at_x]
    return window
