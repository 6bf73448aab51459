"""Kernels whose variance fits what each output really sums. Theory: docs/kernel_initialisation.md."""

import math
from typing import Any, Literal, TypeVar

from ds_core.errors import did_you_mean
from ds_core.initializers import calculate_gain, normal_, uniform_, zeros_
from torch import Generator

from ds_cnn.convolutions.conv import Convolution

# C = in_channels, O = out_channels, g = groups, K = kernel size, s = stride; K and s one number per spatial axis

M = TypeVar("M")

_MODES = ("fan_in", "fan_out", "fan_average")
_DISTRIBUTIONS = ("normal", "uniform")


def convolution_fans(layer: Convolution) -> tuple[float, float]:
    """How many inputs an output of the layer sums, and how many outputs an input goes into, on average.

    Away from the border. Neither is always whole: a transposed kernel of size 3 with stride 2 reaches every other
    output with one product, those between with two.

    Args:
        layer: a convolution, transposed or not.

    Raises:
        TypeError: another layer.
    """
    if not isinstance(layer, Convolution):
        raise TypeError(f"convolution_fans: given {layer!r}, expected a convolution")
    products, steps = math.prod(layer.kernel_size), math.prod(layer.stride)  # K, s
    inputs, outputs = layer.in_channels / layer.groups, layer.out_channels / layer.groups
    if layer.transposed:
        return inputs * products / steps, outputs * products  # C/g K/s, O/g K                                  (4)
    return inputs * products, outputs * products / steps  # C/g K, O/g K/s                                      (3)


def initialise_kernels(
    model: M,
    nonlinearity: str = "relu",
    mode: Literal["fan_in", "fan_out", "fan_average"] = "fan_in",
    *,
    slope: float | None = None,
    distribution: Literal["normal", "uniform"] = "normal",
    generator: Generator | None = None,
) -> M:
    """Draw the kernels of every convolution in `model` anew, with variance gain^2 / fan; their biases become 0.

    He et al., "Delving Deep into Rectifiers", 2015, equations 10 and 14; Glorot and Bengio, 2010, with
    `fan_average`. The fans are those of `convolution_fans`. Other layers, and frozen convolutions, are left alone.

    Args:
        model: a layer, or a network of them.
        nonlinearity: what follows the convolutions; see `ds_core.initializers.calculate_gain`.
        mode: "fan_in" keeps the mean square of the signal forward, "fan_out" that of the gradient backward,
            "fan_average" (their mean) a little of both.
        slope: of a leaky_relu below 0.
        distribution: "normal" or "uniform".
        generator: where the kernels are drawn from.

    Returns:
        The model.

    Raises:
        ValueError: an unknown nonlinearity, mode or distribution.
    """
    gain = calculate_gain(nonlinearity, slope)
    for given, known, what in ((mode, _MODES, "mode"), (distribution, _DISTRIBUTIONS, "distribution")):
        if given not in known:
            near = did_you_mean(given, known)
            raise ValueError(f"initialise_kernels: given {what}={given!r}, expected one of {[*known]}{near}")
    for layer in _convolutions(model):
        fan_in, fan_out = convolution_fans(layer)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_average": (fan_in + fan_out) / 2}[mode]
        std = gain / math.sqrt(fan) if fan > 0 else 0.0  # sigma = g / sqrt(fan)                                (5)
        if layer.weight.requires_grad:
            if distribution == "normal":
                normal_(layer.weight, 0.0, std, generator)
            else:
                uniform_(layer.weight, -math.sqrt(3) * std, math.sqrt(3) * std, generator)
        if layer.bias is not None and layer.bias.requires_grad:
            zeros_(layer.bias)
    return model


def _convolutions(model: Any) -> list[Convolution]:
    modules = model.modules() if hasattr(model, "modules") else ()
    return [module for module in modules if isinstance(module, Convolution)]
