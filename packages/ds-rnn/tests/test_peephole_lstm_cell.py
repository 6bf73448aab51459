"""An LSTM cell with peepholes, held against its formulas in plain torch."""

import pytest
import torch
from ds_core import ShapeError, TraceError, record
from ds_core.testing import check_layer
from ds_rnn import LSTMCell, PeepholeLSTMCell, Recurrence


def some_cell(inputs=3, hidden=4):
    """A cell whose parameters are all random, in float64."""
    cell = PeepholeLSTMCell(inputs, hidden, dtype=torch.float64)
    for parameter in cell.parameters():
        parameter.data = torch.randn_like(parameter)
    return cell


def formulas(weights, x, h, c):
    """One step as Gers, Schraudolph and Schmidhuber write it."""
    a = x @ weights["input.weight"].t() + weights["input.bias"] + h @ weights["state.weight"].t()
    (a_i, a_f, a_g, a_o), (p_i, p_f, p_o) = a.chunk(4, 1), weights["peephole"]
    c_next = (a_f + p_f * c).sigmoid() * c + (a_i + p_i * c).sigmoid() * a_g.tanh()
    return (a_o + p_o * c_next).sigmoid() * c_next.tanh(), c_next


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
        torch.testing.assert_close(one, other.detach(), rtol=1e-12, atol=1e-12)


def test_without_peepholes_it_is_an_lstm_cell():
    """They are zeros at first; then the step and all gradients are those of LSTMCell, and so of torch.nn.LSTMCell."""
    cell, plain = PeepholeLSTMCell(3, 4, dtype=torch.float64), LSTMCell(3, 4, dtype=torch.float64)
    weights = {"weight_ih": cell.input.weight, "weight_hh": cell.state.weight, "bias_ih": cell.input.bias}
    plain.load_state_dict({**weights, "bias_hh": torch.zeros(16)})
    x, state, dh, dc = draw(2, 3), (draw(2, 4), draw(2, 4)), draw(2, 4), draw(2, 4)
    found = []
    for one in (cell, plain):
        with record():
            made = one(x, state)
            dx, dstate = one.backward(dh, dc)
        found.append([*made, dx, *dstate])
    found[0] += [cell.input.weight.grad, cell.state.weight.grad, cell.input.bias.grad]
    found[1] += [plain.weight_ih.grad, plain.weight_hh.grad, plain.bias_ih.grad]
    for given, expected in zip(*found, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)
    assert bool((cell.peephole.grad != 0).all())  # so they learn, although they begin as zeros


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


def test_worked_example():
    cell = PeepholeLSTMCell(1, 1, dtype=torch.float64)
    weights = {
        "input.weight": torch.tensor([[0.0], [1.0], [1.0], [0.0]]),
        "input.bias": torch.zeros(4),
        "state.weight": torch.zeros(4, 1),
        "peephole": torch.tensor([[0.5], [-0.5], [1.0]]),
    }
    cell.load_state_dict(weights)
    one = torch.ones(1, 1, dtype=torch.float64)
    with record() as trace:
        h_next, c_next = cell(one, (0 * one, 2 * one))
        i, f, g, o, _, _, t = trace.entries[-1].saved
        dx, (_, dc) = cell.backward(one)

    def same(given, *expected):
        torch.testing.assert_close(given.flatten(), torch.tensor(expected).double(), rtol=0, atol=6e-5)

    same(torch.stack([i, f, g, o, t]), 0.7311, 0.5, 0.7616, 0.8259, 0.9149)
    same(i * g, 0.5568)
    same(c_next, 1.5568)
    same(h_next, 0.7556)
    same(o * (1 - t * t), 0.1346)
    same(t * o * (1 - o), 0.1316)
    same(o * (1 - t * t) + t * o * (1 - o), 0.2662)
    same(cell.input.bias.grad, 0.0399, 0.1331, 0.0817, 0.1316)
    same(cell.peephole.grad, 0.0797, 0.2662, 0.2048)
    same(dx, 0.2148)
    same(dc, 0.0865)


def test_memory_kept():
    cell = PeepholeLSTMCell(3, 4)
    with record() as trace:
        cell(torch.randn(2, 3), (torch.randn(2, 4), torch.randn(2, 4)))
        assert sum(line.bytes for line in trace.kept()) == 4 * 2 * (3 + 8 * 4)
        trace.take()


def test_impossible_inputs():
    zeros = torch.zeros(2, 4)
    with pytest.raises(ShapeError, match="Linear"):
        PeepholeLSTMCell(3, 4)(torch.zeros(2, 5), (zeros, zeros))
    with pytest.raises(ShapeError, match=r"as hx, expected \[\(2, 4\), \(2, 4\)\]"):
        Recurrence(PeepholeLSTMCell(3, 4))(torch.zeros(5, 2, 3), (zeros, torch.zeros(2, 1)))


def test_a_parameter_changed_before_backward():
    cell, x, zeros = some_cell(), draw(2, 3), torch.zeros(2, 4, dtype=torch.float64)
    with record() as trace:
        y, _ = cell(x, (zeros, zeros))
        cell.peephole.add_(1)
        with pytest.raises(TraceError, match="its parameter peephole"):
            cell.backward(y)
        trace.take()
