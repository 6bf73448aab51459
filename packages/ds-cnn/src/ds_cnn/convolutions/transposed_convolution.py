"""The transposed convolution: an input gradient as a forward pass. Theory: docs/transposed_convolution.md."""

from collections.abc import Sequence

import torch
from ds_core import fast_form, plain_form
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.convolutions.convolution import (
    convolution,
    convolution_bias_gradient,
    convolution_input_gradient,
    convolution_weight_gradient,
)
from ds_cnn.convolutions.geometry import Sizes, output_sizes, transposed_size
from ds_cnn.convolutions.plain_convolution import plain_bias_gradient, products
from ds_cnn.padding.pad import pad

# N = batch, C = input channels, O = output channels, g = groups, P = size of the input, S = size of the output,
# K = kernel size. Input and output have changed places: seen from the convolution, x is its output and y its input.


def plain_transposed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Tensor:
    """x (N, C, *P), weight (C, O/g, *K), bias (O,) -> y (N, O, *S)."""
    size = transposed_sizes(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation)
    y = torch.zeros(len(x), weight.shape[1] * groups, *size, dtype=wide_dtype(x), device=x.device)
    for at_x, at_y, at_w in products(x.shape, y.shape, weight.shape, stride, padding, dilation, groups):
        y[at_y] += x[at_x] * weight[at_w]  # y_nos = sum_cp x_ncp w_cok,  s = p stride - padding + k dilation    (1)
    if bias is not None:
        for o in range(y.shape[1]):
            y[:, o] += bias[o]  # y_nos <- y_nos + b_o                                                           (2)
    return y.to(x.dtype)


def plain_transposed_convolution_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sizes,
    padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> tuple[Tensor, Tensor, Tensor]:
    """dy (N, O, *S), x (N, C, *P), weight (C, O/g, *K) -> dx, dweight, dbias (O,)."""
    wide = wide_dtype(x)
    dx, dweight = torch.zeros_like(x, dtype=wide), torch.zeros_like(weight, dtype=wide)
    for at_x, at_y, at_w in products(x.shape, dy.shape, weight.shape, stride, padding, dilation, groups):
        dx[at_x] += dy[at_y] * weight[at_w]  # dx_ncp = sum_ok dy_nos w_cok                                      (4)
        dweight[at_w] += dy[at_y] * x[at_x]  # dw_cok = sum_np dy_nos x_ncp                                      (5)
    return dx.to(x.dtype), dweight.to(weight.dtype), plain_bias_gradient(dy)  # db_o = sum_ns dy_nos             (6)


# The three sums are those of a convolution with x and y exchanged, so its techniques serve.
@fast_form(plain_transposed_convolution)
def transposed_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Tensor:
    """x (N, C, *P), weight (C, O/g, *K), bias (O,) -> y (N, O, *S)."""
    kernel_size = tuple(weight.shape[2:])
    size = transposed_sizes(x.shape[2:], kernel_size, stride, padding, output_padding, dilation)
    x = _as_many_as_windows(x, output_sizes(size, kernel_size, stride, padding, dilation))
    y = convolution_input_gradient(x, weight, size, stride, padding, dilation, groups)  # (1)
    return y if bias is None else y + bias.view(-1, *[1] * len(size))  # (2)


@fast_form(plain_transposed_convolution_backward)
def transposed_convolution_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sizes,
    padding: Sizes,
    groups: int,
    dilation: Sizes,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy (N, O, *S), x (N, C, *P), weight (C, O/g, *K) -> dx, dweight, dbias (O,)."""
    kernel_size = tuple(weight.shape[2:])
    window = (stride, padding, dilation, groups)
    dx = dweight = None
    if needs[0]:
        dx = convolution(dy, weight, None, *window)  # (4)
        for axis, length in enumerate(x.shape[2:], start=2):
            dx = dx.narrow(axis, 0, length)
    if needs[1]:
        x = _as_many_as_windows(x, output_sizes(dy.shape[2:], kernel_size, stride, padding, dilation))
        dweight = convolution_weight_gradient(x, dy, kernel_size, *window)  # (5)
    return dx, dweight, convolution_bias_gradient(dy) if needs[2] else None  # (6)


def transposed_sizes(
    size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    dilation: Sizes,
) -> Sizes:
    """S of every axis."""
    axes = zip(size, kernel_size, stride, padding, dilation, output_padding, strict=True)
    return tuple(transposed_size(*axis) for axis in axes)


def _as_many_as_windows(x: Tensor, count: Sizes) -> Tensor:
    """x with zeros at the end, if the output has room for more windows: an output padding of a stride or more."""
    missing = [windows - size for windows, size in zip(count, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return pad(x, tuple(number for windows in reversed(missing) for number in (0, windows)))


# What a layer's `implementation` may be
TRANSPOSED_IMPLEMENTATIONS = {
    "vectorized": (transposed_convolution, transposed_convolution_backward),
    "loops": (plain_form(transposed_convolution), plain_form(transposed_convolution_backward)),
}
