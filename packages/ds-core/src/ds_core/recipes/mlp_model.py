"""The network of both recipes: linear layers with activations between them."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ds_core.activations.by_name import make_activation
from ds_core.engine.composition import Sequential
from ds_core.initializers.variance_scaling import kaiming_normal_, lecun_normal_, xavier_uniform_
from ds_core.layers.batch_norm1d import BatchNorm1d
from ds_core.layers.dropout import Dropout
from ds_core.layers.flatten import Flatten
from ds_core.layers.layer_norm import LayerNorm
from ds_core.layers.linear import Linear

NORMS: dict[str, Callable[[int], Any] | None] = {"none": None, "batch": BatchNorm1d, "layer": LayerNorm}
S_SHAPED = ("tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid")


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Sequential:
    """A multilayer perceptron: x (N, ...) with `inputs` numbers a row -> (N, outputs).

    Weights begin with the variance that keeps the signal's through the activation: He et al. (2015) for those that let
    half of it pass, LeCun et al. (1998) for SELU and the output, Glorot and Bengio (2010) for tanh, sigmoid and other
    S-shaped ones. Biases begin at zero.

    Args:
        hidden: the width of each hidden layer; none makes a linear model.
        activation: one of `ds_core.activations.by_name.ACTIVATIONS`.
        norm: one of `NORMS`, before each activation.
        dropout: after each activation.
        generator: for the weights; None: the default one.
    """
    layers: list[Any] = [Flatten()]
    widths = [inputs, *hidden]
    make_norm = NORMS[norm]
    for before, width in itertools.pairwise(widths):
        layers.append(_linear(before, width, activation, generator))
        if make_norm is not None:
            layers.append(make_norm(width))
        layers.append(make_activation(activation, layer="mlp"))
        if dropout > 0:
            layers.append(Dropout(dropout))
    layers.append(_linear(widths[-1], outputs, "none", generator))
    return Sequential(*layers)


def _linear(inputs: int, outputs: int, activation: str, generator: torch.Generator | None) -> Linear:
    layer = Linear(inputs, outputs)
    if activation in ("selu", "none"):
        lecun_normal_(layer.weight, generator=generator)
    elif activation in S_SHAPED:
        xavier_uniform_(layer.weight, generator=generator)
    else:
        kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
    assert layer.bias is not None
    layer.bias.data.zero_()
    return layer
