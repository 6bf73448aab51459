import pytest
import torch
from ds_core import ShapeError
from ds_rnn import GRUCell, LayerNormLSTMCell, LSTMCell, PeepholeLSTMCell, RNNCell, gradient_norms


def test_worked_example():
    # docs/gradient_norms.md
    cell = RNNCell(1, 1, bias=False, nonlinearity="relu")
    with torch.no_grad():
        cell.weight_hh.fill_(0.5)
        cell.weight_ih.fill_(1.0)
    norms = gradient_norms(cell, torch.ones(3, 1, 1), torch.ones(1, 1))
    assert norms.tolist() == [[0.125, 0.25, 0.5, 1.0]]


@pytest.mark.parametrize("kind", [RNNCell, LSTMCell, GRUCell, LayerNormLSTMCell, PeepholeLSTMCell])
def test_they_are_those_of_autograd(kind):
    cell = kind(3, 4, dtype=torch.float64)
    x, dlast = torch.randn(6, 5, 3, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    found = gradient_norms(cell, x, dlast)
    state = cell.initial_state(x[0])
    for t in range(len(x) + 1):
        # the state before step t as a number of its own, and the steps that are left
        leaves = [tensor.detach().requires_grad_() for tensor in (state if isinstance(state, tuple) else (state,))]
        state = tuple(leaves) if isinstance(state, tuple) else leaves[0]
        end = state
        for step in x[t:]:
            end = cell(step, end)
        gradients = torch.autograd.grad(end[0] if isinstance(end, tuple) else end, leaves, dlast, allow_unused=True)
        norms = [0 * dlast if gradient is None else gradient for gradient in gradients]
        expected = torch.stack([gradient.square().sum(1).sqrt().mean() for gradient in norms])
        torch.testing.assert_close(found[:, t], expected)
        if t < len(x):
            state = cell(x[t], state)


def test_parameters_keep_their_gradients_and_are_trained_as_before():
    cell = LSTMCell(2, 3)
    cell.bias_hh.requires_grad_(False)
    norms = gradient_norms(cell, torch.randn(4, 2, 2))
    assert norms.shape == (2, 5)
    assert norms[0, -1] == pytest.approx(1.0)
    assert norms[1, -1] == 0
    assert all(tensor.grad is None for tensor in cell.parameters())
    assert [tensor.requires_grad for tensor in cell.parameters()] == [True, True, True, False]


def test_an_lstm_that_never_forgets_keeps_its_gradient():
    """With forget gates of nearly 1 what reaches the cell stays there, over a thousand steps."""
    cell = LSTMCell(1, 8, dtype=torch.float64)
    with torch.no_grad():
        for tensor in cell.parameters():
            tensor.mul_(0.1)
        cell.bias_ih[8:16].fill_(20.0)
    norms = gradient_norms(cell, torch.randn(1000, 2, 1, dtype=torch.float64))
    assert 0.01 < norms[1, 0] / norms[1, -2] < 100
    faded = gradient_norms(RNNCell(1, 8, dtype=torch.float64), torch.randn(1000, 2, 1, dtype=torch.float64))
    assert faded[0, 0] < 1e-30


def test_an_input_without_steps_is_refused():
    with pytest.raises(ShapeError, match=r"given input of shape \(0, 2, 3\), expected \(T, N, I\) with T > 0"):
        gradient_norms(RNNCell(3, 4), torch.randn(0, 2, 3))
