"""GRUCell: what is its own, and the worked example; test_cell.py has what cells share."""

import pytest
import torch
from ds_core import record
from ds_rnn import GRUCell
from ds_rnn.recurrent.gru_cell import gru_cell, gru_cell_backward, plain_gru_cell, plain_gru_cell_backward


@pytest.mark.parametrize("implementation", ["vectorized", "loops"])
def test_the_two_biases_differ(implementation):
    """r multiplies the second bias of the gate n, so that only the first two thirds of the gradients are the same."""
    cell = GRUCell(3, 2, implementation=implementation)
    with record():
        cell.backward(torch.randn_like(cell(torch.randn(5, 3), torch.randn(5, 2))))
    assert torch.equal(cell.bias_ih.grad[:4], cell.bias_hh.grad[:4])
    assert not torch.isclose(cell.bias_ih.grad[4:], cell.bias_hh.grad[4:]).any()


def test_a_closed_update_gate_keeps_the_state():
    cell, h = GRUCell(3, 2), torch.randn(4, 2)
    cell.bias_ih.data[2:4] = 1000
    with record():
        torch.testing.assert_close(cell(torch.randn(4, 3), h), h)
        dx, dh = cell.backward(torch.ones_like(h))
    assert torch.equal(dh, torch.ones_like(h))
    assert not dx.any()


def test_kept_numbers():
    """x, h, three gates and q: N (I + 5H) numbers."""
    cell = GRUCell(3, 4)
    with record() as trace:
        cell(torch.randn(2, 3), torch.randn(2, 4))
        entry = trace.entries[-1]
        assert sum(tensor.numel() for tensor in entry.saved if isinstance(tensor, torch.Tensor)) == 2 * (3 + 5 * 4)
        cell.backward(None)


@pytest.mark.parametrize(
    ("forward", "backward"), [(gru_cell, gru_cell_backward), (plain_gru_cell, plain_gru_cell_backward)]
)
def test_worked_example(forward, backward):
    """One example, one input, one number of state: the three gates are the three rows of the weights."""
    x, h = torch.tensor([[2.0]]), torch.tensor([[0.5]])
    weight_ih, weight_hh = torch.tensor([[0.5], [-1.0], [0.5]]), torch.tensor([[-1.0], [2.0], [1.0]])
    bias_ih, bias_hh = torch.tensor([0.0, 0.5, -0.5]), torch.tensor([-0.5, 0.0, 0.5])
    u, v = x @ weight_ih.t() + bias_ih, h @ weight_hh.t() + bias_hh
    h_next, gates, q = forward(x, h, weight_ih, weight_hh, bias_ih, bias_hh)
    dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh = backward(
        torch.tensor([[1.0]]), x, h, gates, q, weight_ih, weight_hh
    )

    def same(given, expected):
        torch.testing.assert_close(given, torch.tensor(expected), atol=6e-5, rtol=0)

    same(u, [[1.0, -1.5, 0.5]])
    same(v, [[-1.0, 1.0, 1.0]])
    same(gates, [[0.5, 0.3775, 0.7616]])
    same(q, [[1.0]])
    same(h_next, [[0.6225 * 0.7616 + 0.3775 * 0.5]])
    same(h_next, [[0.6628]])
    same(dbias_ih, [0.0654, -0.0615, 0.2614])
    same(dbias_hh, [0.0654, -0.0615, 0.1307])
    same(dx, [[0.2249]])
    same(dh, [[0.3199]])
    same(dweight_ih, [[0.1307], [-0.1230], [0.5228]])
    same(dweight_hh, [[0.0327], [-0.0307], [0.0654]])
