import functools
import types

import pytest
import torch
import torch.nn.functional as F
from ds_core import GELU, ReLU, SiLU, no_record
from ds_core.interop import from_autograd
from ds_core.testing import check_layer
from ds_transformers import TransformerDecoderLayer, TransformerEncoderLayer
from ds_transformers.blocks.activation import resolve_activation

FUNCTIONS = {
    "torch.relu": torch.relu,
    "torch.tanh": torch.tanh,
    "torch.sigmoid": torch.sigmoid,
    "torch.selu": torch.selu,
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "elu": F.elu,
    "selu": F.selu,
    "tanh": F.tanh,
    "sigmoid": F.sigmoid,
    "leaky_relu": F.leaky_relu,
    "logsigmoid": F.logsigmoid,
    "relu6": F.relu6,
    "celu": F.celu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pytorchs_functions_become_layers_that_compute_the_same(name):
    layer = resolve_activation("Layer", FUNCTIONS[name])
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    with no_record():
        torch.testing.assert_close(layer(x), FUNCTIONS[name](x), rtol=1e-12, atol=1e-12)


def test_names_and_layers():
    assert type(resolve_activation("Layer", "relu")) is ReLU
    assert type(resolve_activation("Layer", "gelu")) is GELU
    layer = SiLU()
    assert resolve_activation("Layer", layer) is layer


@pytest.mark.parametrize("cls", [TransformerEncoderLayer, TransformerDecoderLayer])
@pytest.mark.parametrize("given", ["swish", "ReLU", "silu", ""])
def test_other_names_are_refused(cls, given):
    with pytest.raises(ValueError, match=f"{cls.__name__}: given activation='{given}', expected 'relu', 'gelu' or"):
        cls(6, 2, 8, activation=given)


def named_relu(module):
    """A function of the user's that merely bears the name."""
    function = types.FunctionType((lambda x: 2 * x).__code__, {}, "relu")
    function.__module__ = module
    return function


STRANGERS = {
    "lambda": lambda x: x * x,
    "partial": functools.partial(F.gelu, approximate="tanh"),
    "another function of torch": torch.sin,
    "a user's relu": named_relu("models.parts"),
    "a relu of a package whose name begins with torch": named_relu("torchlike.functions"),
    "a class": ReLU,
    "a torch.nn module": torch.nn.ReLU(),
    "nothing": None,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_function_without_backward_is_refused(name):
    with pytest.raises(TypeError, match=r"TransformerEncoderLayer: .*which has no backward.*from_autograd"):
        TransformerEncoderLayer(6, 2, 8, activation=STRANGERS[name])


def test_the_way_out_that_the_message_names():
    layer = TransformerEncoderLayer(6, 2, 8, 0.0, from_autograd(STRANGERS["lambda"]), batch_first=True)
    check_layer(layer, torch.randn(2, 3, 6), skip=["primitives", "recompute"])
