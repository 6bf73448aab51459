"""LSTM: what is its own; test_recurrent.py has what the layers share."""

import pytest
import torch
from ds_core import record
from ds_core.testing import check_layer
from ds_rnn import LSTM
from torch.nn.utils.rnn import pack_padded_sequence


@pytest.mark.parametrize("implementation", ["vectorized", "loops"])
def test_projection(implementation):
    layer = LSTM(2, 3, proj_size=2, bias=False, implementation=implementation)
    states = torch.randn(1, 2, 2), torch.randn(1, 2, 3)
    check_layer(layer, torch.randn(2, 2, 2), states, batch_dim=[1, 1], skip=["input_gradient"], samples=2)


def test_kept_numbers():
    """A step of a sequence keeps its input, its output, four gates and a cell: I + 6H numbers, and the first states."""
    steps, sequences, inputs, hidden = 5, 3, 2, 4
    layer, x = LSTM(inputs, hidden, dtype=torch.float64), torch.randn(steps, sequences, inputs, dtype=torch.float64)
    with record() as trace:
        layer(x)
        kept = sum(line.bytes for line in trace.kept()) // 8
        assert kept == steps * sequences * (inputs + 6 * hidden) + 2 * sequences * hidden
        layer.backward(None)


@pytest.mark.parametrize("given", [torch.zeros(1, 3, 3), (torch.zeros(1, 3, 3),), (torch.zeros(1, 3, 3),) * 3])
def test_states_that_are_no_pair(given):
    with pytest.raises(TypeError, match=r"LSTM\(2, 3\): given .* as hx, expected a pair \(h, c\)"):
        LSTM(2, 3)(torch.zeros(4, 3, 2), given)


def test_gradients_that_are_no_pair():
    layer = LSTM(2, 3)
    with record():
        y, (h, _) = layer(torch.zeros(4, 3, 2))
        with pytest.raises(TypeError, match=r"backward of LSTM\(2, 3\): gradients for a tuple of 2: given a Tensor"):
            layer.backward(y, h)
        layer.backward(y, (h, None))


@pytest.mark.parametrize("given", [{"proj_size": 3}, {"proj_size": -1}])
def test_impossible_projections(given):
    for layer_class in (torch.nn.LSTM, LSTM):
        with pytest.raises(ValueError, match="proj_size"):
            layer_class(2, 3, **given)


def test_shown_with_its_projection():
    assert repr(LSTM(2, 3, proj_size=1)) == "LSTM(2, 3, proj_size=1)"


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_weights_go_both_ways_and_packed_training_follows(enforce_sorted):
    """A checkpoint of torch.nn.LSTM, ten steps of Adam on packed batches, and back."""
    arguments = {"num_layers": 2, "bidirectional": True, "proj_size": 2, "dtype": torch.float64}
    ours, theirs = LSTM(2, 3, **arguments), torch.nn.LSTM(2, 3, **arguments)
    ours.load_state_dict(theirs.state_dict())
    steppers = [torch.optim.Adam(layer.parameters(), lr=0.05) for layer in (ours, theirs)]
    lengths = [4, 3, 1] if enforce_sorted else [1, 4, 3]
    for _ in range(10):
        x = torch.randn(4, 3, 2, dtype=torch.float64)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
        for stepper in steppers:
            stepper.zero_grad()
        z, _ = theirs(packed)
        z.data.square().sum().backward()
        with record():
            y, _ = ours(packed)
            ours.backward(y._replace(data=2 * y.data))
        torch.testing.assert_close(y.data, z.data)
        for stepper in steppers:
            stepper.step()
    theirs_after = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs_after[name], rtol=1e-8, atol=1e-10)
    theirs.load_state_dict(ours.state_dict())
