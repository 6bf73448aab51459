"""An LSTM cell with layer normalisation, held against its formulas in plain torch."""

import pytest
import torch
from ds_core import ShapeError, TraceError, record
from ds_core.testing import check_layer
from ds_rnn import LayerNormLSTMCell, Recurrence
from torch.nn.functional import layer_norm


def some_cell(inputs=3, hidden=4):
    """A cell whose parameters are all random, in float64."""
    cell = LayerNormLSTMCell(inputs, hidden, dtype=torch.float64)
    for parameter in cell.parameters():
        parameter.data = torch.randn_like(parameter)
    return cell


def formulas(weights, x, h, c):
    """One step as Ba, Kiros and Hinton write it, with a bias for all three of theirs."""

    def normed(name, a):
        return layer_norm(a, a.shape[1:], weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    a = normed("input_norm", x @ weights["input.weight"].t()) + normed("state_norm", h @ weights["state.weight"].t())
    i, f, g, o = (a + weights["bias"]).chunk(4, 1)
    c_next = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * normed("cell_norm", c_next).tanh(), c_next


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_layer_over_time():
    # input_gradient=False leaves out the gradient of one of the three inputs alone
    check_layer(
        Recurrence(some_cell()), draw(3, 2, 3), (draw(2, 4), draw(2, 4)), batch_dim=[1, 0], skip=["input_gradient"]
    )


def test_layer_over_time_with_lengths_from_the_end():
    recurrence = Recurrence(some_cell(), batch_first=True, reverse=True)
    skip = ["input_gradient"]
    state = (draw(3, 4), draw(3, 4))
    check_layer(recurrence, draw(3, 3, 3), state, kwargs={"lengths": [2, 0, 3]}, batch_dim=None, skip=skip, samples=4)


def test_formulas():
    cell, x, h, c, dh, dc = some_cell(), draw(2, 3), draw(2, 4), draw(2, 4), draw(2, 4), draw(2, 4)
    with record():
        found = list(cell(x, (h, c)))
        dx, dstate = cell.backward(dh, dc)
    found += [dx, *dstate, *(parameter.grad for parameter in cell.parameters())]
    leaves = [tensor.clone().requires_grad_() for tensor in (x, h, c)]
    weights = {name: parameter.detach().clone().requires_grad_() for name, parameter in cell.named_parameters()}
    h_next, c_next = formulas(weights, *leaves)
    expected = [h_next, c_next, *torch.autograd.grad([h_next, c_next], [*leaves, *weights.values()], [dh, dc])]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("left_out", ["h", "c"])
def test_one_gradient_left_out_is_zeros(left_out):
    cell, x, state = some_cell(), draw(2, 3), (draw(2, 4), draw(2, 4))
    dh, dc = (None, draw(2, 4)) if left_out == "h" else (draw(2, 4), None)
    zeros = torch.zeros(2, 4, dtype=torch.float64)
    found = []
    for gradients in ((dh, dc), (zeros if dh is None else dh, zeros if dc is None else dc)):
        with record():
            cell(x, state)
            dx, dstate = cell.backward(*gradients)
        found.append([dx, *dstate])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_scale_of_the_input_does_not_matter():
    """What normalisation is for: a hundred times the input gives the same step."""
    cell, x, state = some_cell(), draw(2, 3), (draw(2, 4), draw(2, 4))
    for one, other in zip(cell(1000 * x, state), cell(10 * x, state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)  # eps is all that is left


def test_parameters():
    shapes = {name: tuple(tensor.shape) for name, tensor in LayerNormLSTMCell(3, 4).state_dict().items()}
    assert shapes == {
        "input.weight": (16, 3),
        "state.weight": (16, 4),
        "input_norm.weight": (16,),
        "state_norm.weight": (16,),
        "cell_norm.weight": (4,),
        "cell_norm.bias": (4,),
        "bias": (16,),
    }


def test_same_seed_same_weights():
    one, other = (LayerNormLSTMCell(3, 4, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_worked_example():
    cell = LayerNormLSTMCell(1, 2, dtype=torch.float64)
    cell.input.weight.data = torch.tensor([[1.0], [-1.0]] * 4, dtype=torch.float64)
    x, h = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    c = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    with record():
        h_next, c_next = cell(x, (h, c))
        dx, (_, dc) = cell.backward(*torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]], dtype=torch.float64))

    def same(given, *expected):
        torch.testing.assert_close(given.flatten(), torch.tensor(expected).double(), rtol=0, atol=6e-5)

    same(torch.tensor([1.0, -1.0]).double().sigmoid(), 0.7311, 0.2689)
    same(torch.tensor(1.0).double().tanh(), 0.7616)
    same(c_next, 1.2878, -0.4738)
    same(h_next, 0.5568, -0.2048)
    same(cell.bias.grad, 0.1497, 0, 0.1966, 0, 0.3070, 0, 0.1497, 0)
    same(dc, 0.7311, 0)
    same(dx, 0)


def test_memory_kept():
    cell = LayerNormLSTMCell(3, 4)
    with record() as trace:
        cell(torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4)))
        assert sum(line.bytes for line in trace.kept()) == 4 * 2 * (3 + 16 * 4 + 6)
        trace.take()


def test_impossible_inputs():
    zeros = torch.zeros(2, 4)
    with pytest.raises(ShapeError, match="Linear"):
        LayerNormLSTMCell(3, 4)(torch.zeros(2, 5), (zeros, zeros))
    with pytest.raises(ShapeError, match=r"as hx, expected \[\(2, 4\), \(2, 4\)\]"):
        Recurrence(LayerNormLSTMCell(3, 4))(torch.zeros(5, 2, 3), (zeros, torch.zeros(2, 1)))


def test_a_parameter_changed_before_backward():
    cell, x, zeros = some_cell(), draw(2, 3), torch.zeros(2, 4, dtype=torch.float64)
    with record() as trace:
        y, _ = cell(x, (zeros, zeros))
        cell.bias.add_(1)
        with pytest.raises(TraceError, match="its parameter bias"):
            cell.backward(y)
        trace.take()
