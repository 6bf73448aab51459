"""Convolution and its three gradients, by whichever technique fits. Theory: docs/plain_convolution.md."""

from collections.abc import Sequence

from ds_core import fast_form
from ds_core.speed.precision import widened
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.convolutions.plain_convolution import (
    plain_bias_gradient,
    plain_convolution,
    plain_input_gradient,
    plain_weight_gradient,
)
from ds_cnn.convolutions.techniques import TECHNIQUES, Technique, choose_technique

# N = batch, C = input channels, O = output channels, g = groups, S = size of the input, P = size of the output,
# K = kernel size; the plain pair is in plain_convolution.py


@fast_form(plain_convolution)
def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int
) -> Tensor:
    """x (N, C, *S), weight (O, C/g, *K), bias (O,) -> y (N, O, *P): y_nop = sum_ck x_ncs w_ock + b_o."""
    name = choose_technique(x.shape, weight.shape, stride, padding, dilation, groups, x.dtype, x.device, of="forward")
    return TECHNIQUES[name].forward(x, weight, bias, stride, padding, dilation, groups)


@fast_form(plain_input_gradient)
def convolution_input_gradient(
    dy: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), weight (O, C/g, *K) -> dx (N, C, *S): dx_ncs = sum_op dy_nop w_ock."""
    shape = (len(dy), weight.shape[1] * groups, *input_size)
    name = choose_technique(
        shape, weight.shape, stride, padding, dilation, groups, dy.dtype, dy.device, of="input_gradient"
    )
    return TECHNIQUES[name].input_gradient(dy, weight, input_size, stride, padding, dilation, groups)


@fast_form(plain_weight_gradient)
def convolution_weight_gradient(
    dy: Tensor,
    x: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    """dy (N, O, *P), x (N, C, *S) -> dweight (O, C/g, *K): dw_ock = sum_np dy_nop x_ncs."""
    shape = (dy.shape[1], x.shape[1] // groups, *kernel_size)
    name = choose_technique(x.shape, shape, stride, padding, dilation, groups, x.dtype, x.device, of="weight_gradient")
    return TECHNIQUES[name].weight_gradient(dy, x, kernel_size, stride, padding, dilation, groups)


@fast_form(plain_bias_gradient)
def convolution_bias_gradient(dy: Tensor) -> Tensor:
    """dy (N, O, *P) -> dbias (O,): db_o = sum_np dy_nop."""
    return widened(dy).sum([0, *range(2, dy.dim())]).to(dy.dtype)


# What a layer's `implementation` may be: the best technique for the shapes, the definition, or one technique by name.
IMPLEMENTATIONS = {
    "vectorized": Technique(convolution, convolution_input_gradient, convolution_weight_gradient),
    "loops": Technique(plain_convolution, plain_input_gradient, plain_weight_gradient),
    **TECHNIQUES,
}


def convolution_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
    needs: tuple[bool, bool, bool] = (True, True, True),
    implementation: str = "vectorized",
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy (N, O, *P), x (N, C, *S), weight (O, C/g, *K) -> dx, dweight, dbias (O,), each of its tensor's shape."""
    by = IMPLEMENTATIONS[implementation]
    window = (stride, padding, dilation, groups)
    dx = by.input_gradient(dy, weight, tuple(x.shape[2:]), *window) if needs[0] else None
    dweight = by.weight_gradient(dy, x, tuple(weight.shape[2:]), *window) if needs[1] else None
    by_bias = plain_bias_gradient if implementation == "loops" else convolution_bias_gradient
    dbias = by_bias(dy) if needs[2] else None
    return dx, dweight, dbias
