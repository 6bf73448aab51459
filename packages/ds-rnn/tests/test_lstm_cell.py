"""LSTMCell: what is its own, and the worked example; test_cell.py has what cells share."""

import pytest
import torch
from ds_core import record
from ds_rnn import LSTMCell
from ds_rnn.recurrent.lstm_cell import (
    lstm_cell,
    lstm_cell_backward,
    plain_lstm_cell,
    plain_lstm_cell_backward,
)


@pytest.mark.parametrize("given", [torch.zeros(2, 4), (torch.zeros(2, 4),), (torch.zeros(2, 4),) * 3])
def test_states_that_are_no_pair(given):
    with pytest.raises(TypeError, match=r"LSTMCell\(3, 4\): given .* as hx, expected a pair \(h, c\)"):
        LSTMCell(3, 4)(torch.zeros(2, 3), given)


def test_states_in_a_list():
    cell, x, states = LSTMCell(3, 4), torch.randn(2, 3), [torch.randn(2, 4), torch.randn(2, 4)]
    assert all(torch.equal(a, b) for a, b in zip(cell(x, states), cell(x, tuple(states)), strict=True))


def test_kept_numbers():
    """x, h, c, c' and four gates: N (I + 7H) numbers."""
    cell = LSTMCell(3, 4)
    with record() as trace:
        cell(torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4)))
        assert sum(line.bytes for line in trace.kept()) == 4 * 2 * (3 + 7 * 4)
        cell.backward(None)


@pytest.mark.parametrize(
    ("forward", "backward"), [(lstm_cell, lstm_cell_backward), (plain_lstm_cell, plain_lstm_cell_backward)]
)
def test_worked_example(forward, backward):
    """One example, one input, one number of state: the four gates are the four rows of the weights."""
    x, h, c = torch.tensor([[2.0]]), torch.tensor([[0.5]]), torch.tensor([[-1.0]])
    weight_ih, weight_hh = torch.tensor([[0.5], [1.0], [-0.5], [0.0]]), torch.tensor([[0.0], [-2.0], [1.0], [2.0]])
    bias_ih, bias_hh = torch.tensor([0.0, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    h_next, c_next, gates = forward(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh)
    dx, dh, dc, dweight_ih, dweight_hh, dbias = backward(
        torch.tensor([[1.0]]), torch.tensor([[0.5]]), x, h, c, c_next, gates, weight_ih, weight_hh
    )

    def same(given, expected):
        torch.testing.assert_close(given, torch.tensor(expected), atol=6e-5, rtol=0)

    same(x @ weight_ih.t() + h @ weight_hh.t() + bias_ih + bias_hh, [[1.0, 1.5, 0.5, 1.0]])
    same(gates, [[0.7311, 0.8176, 0.4621, 0.7311]])
    same(c_next, [[-0.4797]])
    same(torch.tanh(c_next), [[-0.4460]])
    same(h_next, [[-0.3261]])
    dcell = 0.5 + gates[0, 3] * (1 - torch.tanh(c_next) ** 2)
    same(dcell, [[1.0856]])
    same(dc, [[0.8876]])
    same(dbias, [0.0986, -0.1619, 0.6242, -0.0877])
    same(dx, [[-0.4247]])
    same(dh, [[0.7726]])
    same(dweight_ih, [[0.1973], [-0.3238], [1.2483], [-0.1754]])
    same(dweight_hh, [[0.0493], [-0.0810], [0.3121], [-0.0438]])
