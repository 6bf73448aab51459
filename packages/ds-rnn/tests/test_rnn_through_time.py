"""The steps of an Elman network as a function: the worked example, and gradients that vanish; layers test the rest."""

import pytest
import torch
from ds_rnn.recurrent.rnn_through_time import (
    plain_rnn_through_time,
    plain_rnn_through_time_backward,
    rnn_through_time,
    rnn_through_time_backward,
)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (rnn_through_time, rnn_through_time_backward),
        (plain_rnn_through_time, plain_rnn_through_time_backward),
    ],
)
def test_worked_example(forward, backward):
    """Two sequences of one number, of two steps and of one: the rows are x_1 of both, then x_2 of the first."""
    x, h0 = torch.tensor([[1.0], [-1.0], [0.5]]), torch.tensor([[0.0], [0.5]])
    weights, sizes = (torch.tensor([[0.5]]), torch.tensor([[0.8]])), (2, 1)
    y, h_n = forward(x, h0, *weights, None, None, "tanh", sizes, False)
    dx, dh0, dweight_ih, dweight_hh, dbias = backward(
        torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[0.0], [2.0]]), x, h0, y, *weights, "tanh", sizes, False
    )

    def same(given, expected):
        torch.testing.assert_close(given, torch.tensor(expected), atol=6e-5, rtol=0)

    same(y, [[0.4621], [-0.0997], [0.5509]])
    same(h_n, [[0.5509], [-0.0997]])
    da = dx / 0.5
    same(da, [[1.2247], [1.9801], [0.6965]])
    same(da[0], [(1 + 0.8 * 0.6965) * (1 - 0.4621**2)])
    same(dx, [[0.6123], [0.9901], [0.3482]])
    same(dh0, [[0.9797], [1.5841]])
    same(dweight_ih, [[-0.4072]])
    same(dweight_hh, [[1.3119]])
    same(dbias, [3.9013])


def test_gradients_vanish_and_explode():
    """With relu and states above 0, the factor of each step is the weight itself: dh0 = w^T."""
    for weight, expected in ((0.9, 0.9**50), (1.1, 1.1**50)):
        weights = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[weight]], dtype=torch.float64)
        x, h0 = torch.ones(50, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        y, _ = rnn_through_time(x, h0, *weights, None, None, "relu", (1,) * 50, False)
        _, dh0, *_ = rnn_through_time_backward(
            torch.zeros_like(y), torch.ones_like(h0), x, h0, y, *weights, "relu", (1,) * 50, False
        )
        assert float(dh0) == pytest.approx(expected)
