"""RNN: what is its own; test_recurrent.py has what the layers share."""

import pytest
import torch
from ds_core import record
from ds_core.testing import check_layer
from ds_rnn import RNN


def test_relu():
    layer = RNN(2, 3, 2, "relu", bidirectional=True)
    inputs = torch.randn(3, 2, 2), torch.randn(4, 2, 3)
    check_layer(layer, *inputs, batch_dim=[1, 1], skip=["input_gradient"], samples=2)


def test_kept_numbers():
    """A step of a sequence keeps its input and its output: I + H numbers, and the first states."""
    layer, x = RNN(2, 4, dtype=torch.float64), torch.randn(5, 3, 2, dtype=torch.float64)
    with record() as trace:
        layer(x)
        assert sum(line.bytes for line in trace.kept()) // 8 == 5 * 3 * (2 + 4) + 3 * 4
        layer.backward(None)


@pytest.mark.parametrize("layer_class", [torch.nn.RNN, RNN])
def test_unknown_nonlinearity(layer_class):
    with pytest.raises(ValueError, match="nonlinearity"):
        layer_class(2, 3, nonlinearity="gelu")


def test_shown_with_its_nonlinearity():
    assert repr(RNN(2, 3, 2, "relu")) == "RNN(2, 3, num_layers=2, nonlinearity=relu)"
