"""The steps of a GRU as a function: the worked example; layers test the rest."""

import pytest
import torch
from ds_rnn.recurrent.gru_through_time import (
    gru_through_time,
    gru_through_time_backward,
    plain_gru_through_time,
    plain_gru_through_time_backward,
)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (gru_through_time, gru_through_time_backward),
        (plain_gru_through_time, plain_gru_through_time_backward),
    ],
)
def test_worked_example(forward, backward):
    """Two steps of one sequence of one number."""
    x, h0, sizes = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5]]), (1, 1)
    weights = torch.tensor([[0.5], [-1.0], [0.5]]), torch.tensor([[-1.0], [2.0], [1.0]])
    y, h_n, gates, q = forward(x, h0, *weights, None, None, sizes, False)
    dx, dh0, dweight_ih, dweight_hh, dbias_ih, dbias_hh = backward(
        torch.tensor([[0.0], [1.0]]), torch.zeros(1, 1), x, h0, y, gates, q, *weights, sizes, False
    )

    def same(given, expected):
        torch.testing.assert_close(given, torch.tensor(expected), atol=6e-5, rtol=0)

    same(gates, [[0.5, 0.5, 0.6351], [0.6065, 0.2963, 0.8727]])
    same(y, [[0.5676], [0.7823]])
    same(q, [[0.5], [0.5676]])
    assert torch.equal(h_n, y[1:])
    same(dx, [[0.0500], [0.1589]])
    same(dh0, [[0.1350]])
    same(dweight_ih, [[0.0547], [-0.1356], [0.4096]])
    same(dweight_hh, [[0.0175], [-0.0403], [0.0763]])
    same(dbias_ih, [0.0320, -0.0720, 0.2418])
    same(dbias_hh, [0.0320, -0.0720, 0.1388])
