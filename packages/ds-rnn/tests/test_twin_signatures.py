"""Every class with the name of one of torch's takes what that one takes."""

import inspect

import ds_rnn
import pytest
import torch
from ds_core.testing import CheckFailed, check_signature, check_signatures
from ds_rnn import GRU, LSTM, RNN

# At run time the constructors of these twins take *args and **kwargs, and hand them to RNNBase, which names them.
BY_RNN_BASE = dict.fromkeys(("GRU", "LSTM", "RNN"), "its arguments are compared below")


def documented(name):
    """A class with the arguments that the twin documents: RNNBase's without `mode`, and what is its own."""
    twin, signature = getattr(torch.nn, name), inspect.signature(torch.nn.RNNBase)
    absent = ("mode",) if name == "LSTM" else ("mode", "proj_size")
    arguments = [argument for argument in signature.parameters.values() if argument.name not in absent]
    if name == "RNN":  # RNN takes a nonlinearity as its fourth
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        arguments.insert(3, inspect.Parameter("nonlinearity", kind, default="tanh"))
    members = {"__signature__": signature.replace(parameters=arguments), "forward": twin.forward}
    return type(name, (), members)


def test_signatures_are_the_twins():
    assert {"RNNCell", "LSTMCell", "GRUCell"} <= {*check_signatures(ds_rnn, BY_RNN_BASE)}


@pytest.mark.parametrize("layer_class", [RNN, LSTM, GRU])
def test_layers_take_what_the_twins_document(layer_class):
    check_signature(layer_class, documented(layer_class.__name__))


def test_the_comparison_sees_a_difference():
    twin = documented("LSTM")
    arguments = [p for p in twin.__signature__.parameters.values() if p.name != "bias"]
    twin.__signature__ = twin.__signature__.replace(parameters=arguments)
    with pytest.raises(CheckFailed):
        check_signature(LSTM, twin)
