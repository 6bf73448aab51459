"""The steps of an LSTM as a function: the worked example with a projection, and how little it forgets."""

import pytest
import torch
from ds_rnn.recurrent.lstm_through_time import (
    lstm_through_time,
    lstm_through_time_backward,
    plain_lstm_through_time,
    plain_lstm_through_time_backward,
    plain_projection,
    plain_projection_backward,
)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lstm_through_time, lstm_through_time_backward),
        (plain_lstm_through_time, plain_lstm_through_time_backward),
    ],
)
def test_worked_example(forward, backward):
    """Two steps of one sequence, two numbers of memory, projected to one."""
    x, h0, c0 = torch.tensor([[1.0], [2.0]]), torch.zeros(1, 1), torch.zeros(1, 2)
    weight_ih = torch.tensor([[1.0, 0, 1, -1, 0.5, 1, 0, 1]]).t()
    weight_hh = torch.tensor([[0.0, 1, 0, 1, 1, 0, 2, 0]]).t()
    weights, sizes = (weight_ih, weight_hh), (1, 1)
    weight_hr = torch.tensor([[1.0, -0.5]])
    y, h_n, c_n, gates, cells = forward(x, h0, c0, *weights, None, None, weight_hr, sizes, False)
    dy, zeros = torch.tensor([[0.0], [1.0]]), (torch.zeros(1, 1), torch.zeros(1, 2))
    dx, dh0, dc0, dweight_ih, _, _, dweight_hr = backward(
        dy, *zeros, x, h0, c0, y, gates, cells, *weights, weight_hr, sizes, False
    )

    def same(given, expected):
        torch.testing.assert_close(given, torch.tensor(expected), atol=6e-5, rtol=0)

    same(gates[0], [0.7311, 0.5, 0.7311, 0.2689, 0.4621, 0.7616, 0.5, 0.7311])
    same(cells, [[0.3378, 0.3808], [0.9792, 0.5358]])
    shown = gates[:, 6:] * torch.tanh(cells)
    same(shown, [[0.1628, 0.2657], [0.3876, 0.4314]])
    same(y, [[0.0299], [0.1719]])
    assert torch.equal(h_n, y[1:])
    assert torch.equal(c_n, cells[1:])
    same(dweight_hr, [[0.4463, 0.5272]])
    dh_1 = dweight_hr - shown[1:]
    same(dh_1 / shown[:1], [[0.3605, 0.3605]])
    same(dx, [[0.0898], [0.0415]])
    same(dh0, [[0.2348]])
    same(dc0, [[0.2615, -0.0418]])
    same(dweight_ih.t()[0, :2], [0.0688, -0.1909])


def test_projection():
    shown, weight, dh = torch.randn(3, 4), torch.randn(2, 4), torch.randn(3, 2)
    torch.testing.assert_close(plain_projection(shown, weight), shown @ weight.t())
    dshown, dweight = plain_projection_backward(dh, shown, weight)
    torch.testing.assert_close(dshown, dh @ weight)
    torch.testing.assert_close(dweight, dh.t() @ shown)


def test_the_cell_s_gradient_is_the_product_of_forget_gates():
    """If nothing flows through h, dc0 = dc_n f_1 ... f_T."""
    steps, hidden = 30, 3
    x, h0, c0 = torch.randn(steps, 2), torch.zeros(1, hidden), torch.randn(1, hidden)
    weights = torch.randn(4 * hidden, 2), torch.zeros(4 * hidden, hidden)
    sizes = (1,) * steps
    y, _, _, gates, cells = lstm_through_time(x, h0, c0, *weights, None, None, None, sizes, False)
    zeros, dc_n = torch.zeros_like(y), torch.randn(1, hidden)
    _, _, dc0, *_ = lstm_through_time_backward(
        zeros, zeros[:1], dc_n, x, h0, c0, y, gates, cells, *weights, None, sizes, False
    )
    torch.testing.assert_close(dc0, dc_n * gates[:, hidden : 2 * hidden].prod(0))
