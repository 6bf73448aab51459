"""What the gradient penalty must know of a layer: its slope, both ways. Theory: docs/gradient_penalty.md."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ds_core import (
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Unflatten,
    linear,
    linear_backward,
    no_record,
)
from ds_core.activations.leaky_relu import leaky_relu, leaky_relu_backward
from ds_core.activations.relu import relu, relu_backward
from torch import Tensor

from ds_cnn.convolutions.conv import PADDING_MODES, Conv, Conv1d, Conv2d, Conv3d
from ds_cnn.convolutions.convolution import IMPLEMENTATIONS
from ds_cnn.padding.pad import pad, pad_backward

# N = batch; s is what a layer is given, J its slope there, u a change of s, v a gradient of the layer's output


class PenaltyRule(NamedTuple):
    """A layer y = f(s) that is linear wherever no number in it changes its sign: y(s + u) = y(s) + J u.

    Attributes:
        forward: (layer, s) -> y, and what the next two read.
        back: (layer, kept, v) -> J^T v, of the shape of s.
        along: (layer, kept, u) -> J u, of the shape of y.
        weight_gradient: (layer, v, u) -> the gradient of v . (J u) by the layer's `weight`; None if it has none.
    """

    forward: Callable[[Any, Tensor], tuple[Tensor, Any]]
    back: Callable[[Any, Any, Tensor], Tensor]
    along: Callable[[Any, Any, Tensor], Tensor]
    weight_gradient: Callable[[Any, Tensor, Tensor], Tensor] | None = None


def _convolution(layer: Conv, s: Tensor) -> tuple[Tensor, Any]:
    padded, window = _padded(layer, s)
    y = IMPLEMENTATIONS[layer.implementation].forward(padded, layer.weight, layer.bias, *window)
    return y, (s.shape, tuple(padded.shape[2:]))


def _convolution_back(layer: Conv, kept: Any, v: Tensor) -> Tensor:
    shape, padded_size = kept
    border, padding = layer.border_and_padding()
    window = (layer.stride, padding, layer.dilation, layer.groups)
    ds = IMPLEMENTATIONS[layer.implementation].input_gradient(v, layer.weight, padded_size, *window)
    return ds if border is None else pad_backward(ds, shape, border, PADDING_MODES[layer.padding_mode])


def _convolution_along(layer: Conv, kept: Any, u: Tensor) -> Tensor:
    padded, window = _padded(layer, u)  # every way of padding is linear, and so is a convolution without its bias
    return IMPLEMENTATIONS[layer.implementation].forward(padded, layer.weight, None, *window)


def _convolution_weight_gradient(layer: Conv, v: Tensor, u: Tensor) -> Tensor:
    padded, window = _padded(layer, u)
    return IMPLEMENTATIONS[layer.implementation].weight_gradient(v, padded, layer.kernel_size, *window)


def _padded(layer: Conv, s: Tensor) -> tuple[Tensor, Any]:
    """The input as the convolution sees it, and stride, padding, dilation and groups."""
    border, padding = layer.border_and_padding()
    padded = s if border is None else pad(s, border, PADDING_MODES[layer.padding_mode])
    return padded, (layer.stride, padding, layer.dilation, layer.groups)


def _linear_weight_gradient(layer: Linear, v: Tensor, u: Tensor) -> Tensor:
    _, dweight, _ = linear_backward(v, u, layer.weight, (False, True, False))
    assert dweight is not None
    return dweight


def _leaky_relu(layer: LeakyReLU, s: Tensor) -> tuple[Tensor, Any]:
    return leaky_relu(s, layer.negative_slope), s


def _leaky_relu_slope(layer: LeakyReLU, s: Tensor, u: Tensor) -> Tensor:
    return leaky_relu_backward(u, s, layer.negative_slope)


def _relu(layer: ReLU, s: Tensor) -> tuple[Tensor, Any]:
    y = relu(s)
    return y, y


def _reshaped(layer: Any, s: Tensor) -> tuple[Tensor, Any]:
    with no_record():  # which would have the layer's own backward follow
        shape = layer.forward(s).shape
    return s.reshape(shape), (s.shape, shape)


CONVOLUTION = PenaltyRule(_convolution, _convolution_back, _convolution_along, _convolution_weight_gradient)

LINEAR = PenaltyRule(
    lambda layer, s: (linear(s, layer.weight, layer.bias), None),
    lambda layer, kept, v: linear(v, layer.weight.t(), None),  # J^T v = W^T v
    lambda layer, kept, u: linear(u, layer.weight, None),  # J u = W u
    _linear_weight_gradient,
)

# A slope for each number, so J is diagonal and J^T = J
LEAKY_RELU = PenaltyRule(_leaky_relu, _leaky_relu_slope, _leaky_relu_slope)
RELU = PenaltyRule(_relu, lambda layer, y, v: relu_backward(v, y), lambda layer, y, u: relu_backward(u, y))

RESHAPED = PenaltyRule(
    _reshaped, lambda layer, shapes, v: v.reshape(shapes[0]), lambda layer, shapes, u: u.reshape(shapes[1])
)

# By class. Add a rule for a layer of your own here.
PENALTY_RULES: dict[type, PenaltyRule] = {
    Conv1d: CONVOLUTION,
    Conv2d: CONVOLUTION,
    Conv3d: CONVOLUTION,
    Linear: LINEAR,
    LeakyReLU: LEAKY_RELU,
    ReLU: RELU,
    Flatten: RESHAPED,
    Unflatten: RESHAPED,
    Identity: RESHAPED,
}


def penalised_layers(critic: Any) -> list[tuple[Any, PenaltyRule]]:
    """The layers of a critic in the order of their calls, each with its rule. A `Sequential` is taken apart.

    Raises:
        TypeError: a layer has no rule, as batch norm, dropout and smooth activations have none.
    """
    if isinstance(critic, Sequential) and type(critic).forward is Sequential.forward:
        return [pair for layer in critic for pair in penalised_layers(layer)]
    rule = PENALTY_RULES.get(type(critic))
    if rule is None:
        names = ", ".join(kind.__name__ for kind in PENALTY_RULES)
        raise TypeError(
            f"gradient penalty: the critic holds {critic!r}, for which there is no rule; expected a Sequential of "
            f"{names}. Batch norm mixes the rows, whose gradients the penalty takes one by one, and a smooth "
            "activation has a second derivative"
        )
    return [(critic, rule)]
