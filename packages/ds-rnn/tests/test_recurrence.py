"""Any cell over time, held against RNN, LSTM and GRU, which do the same in fewer products."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ds_core import Linear, Module, ShapeError, record
from ds_core.interop import as_torch
from ds_core.testing import check_layer, one_graph
from ds_rnn import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrence, RNNCell
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

PAIRS = pytest.mark.parametrize(
    ("layer_class", "cell_class"), [(RNN, RNNCell), (LSTM, LSTMCell), (GRU, GRUCell)], ids=["RNN", "LSTM", "GRU"]
)
REVERSE = pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reverse"])


def both(layer_class, cell_class, reverse=False, batch_first=False):
    """A layer and its cell over time, with the same weights; the second direction of the layer for `reverse`."""
    layer = layer_class(3, 4, batch_first=batch_first, bidirectional=reverse, dtype=torch.float64)
    cell = cell_class(3, 4, dtype=torch.float64)
    suffix = "_l0_reverse" if reverse else "_l0"
    cell.load_state_dict({name: layer.state_dict()[name + suffix] for name in cell.state_dict()})
    return layer, Recurrence(cell, batch_first=batch_first, reverse=reverse)


def tensors(value):
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, torch.Tensor) else list(value)


def like(value):
    """A gradient for an output: of the same form, random."""
    if isinstance(value, PackedSequence):
        return value._replace(data=like(value.data))
    return torch.randn_like(value) if isinstance(value, torch.Tensor) else tuple(like(part) for part in value)


def assert_same(layer_class, cell_class, x, hx=None, reverse=False, batch_first=False, lengths=None):
    """Outputs, last states and all gradients of the cell over time are those of the layer."""
    layer, recurrence = both(layer_class, cell_class, reverse, batch_first)
    with record():
        y, last = recurrence(x, hx, lengths=lengths)
        dy, dlast = like(y), like(last)
        dx, dfirst = recurrence.backward(dy, dlast)
    found = [*tensors(y), *tensors(last), *tensors(dx), *tensors(dfirst)]
    directions = slice(4, 8) if reverse else slice(0, 4)

    def of_layer(state):
        """The state of the one layer and direction, or a batch of them with zeros for the other direction."""
        if isinstance(state, tuple):
            return tuple(of_layer(part) for part in state)
        return torch.stack([torch.zeros_like(state), state]) if reverse else state[None]

    def widened(batch):
        if isinstance(batch, PackedSequence):
            return batch._replace(data=widened(batch.data))
        return torch.cat([torch.zeros_like(batch), batch], -1) if reverse else batch

    with record():
        y, last = layer(x, None if hx is None else of_layer(hx), lengths=lengths)
        dx, dfirst = layer.backward(widened(dy), of_layer(dlast))
    expected = [
        *(part[..., directions] for part in tensors(y)),
        *(part[-1] for part in tensors(last)),
        *tensors(dx),
        *(part[-1] for part in tensors(dfirst)),
    ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    suffix = "_l0_reverse" if reverse else "_l0"
    for name, parameter in recurrence.cell.named_parameters():
        expected = getattr(layer, name + suffix).grad
        found = torch.zeros_like(expected) if parameter.grad is None else parameter.grad  # None if no step was made
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    return y


def state_of(cell_class, *shape):
    state = tuple(torch.randn(*shape, dtype=torch.float64) for _ in range(2))
    return state if cell_class is LSTMCell else state[0]


@PAIRS
@REVERSE
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("lengths", [None, [2, 0, 5, 3], [0, 0, 0, 0]], ids=["full", "lengths", "nothing"])
def test_padded(layer_class, cell_class, reverse, batch_first, given, lengths):
    x = torch.randn(*((4, 5) if batch_first else (5, 4)), 3, dtype=torch.float64)
    hx = state_of(cell_class, 4, 4) if given else None
    assert_same(layer_class, cell_class, x, hx, reverse, batch_first, lengths)


@PAIRS
@REVERSE
def test_packed(layer_class, cell_class, reverse):
    x, lengths = torch.randn(5, 4, 3, dtype=torch.float64), torch.tensor([2, 1, 5, 3])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    y = assert_same(layer_class, cell_class, packed, state_of(cell_class, 4, 4), reverse)
    assert isinstance(y, PackedSequence)


@PAIRS
@REVERSE
@pytest.mark.parametrize("lengths", [None, [3], [0]])
def test_one_sequence(layer_class, cell_class, reverse, lengths):
    x = torch.randn(5, 3, dtype=torch.float64)
    assert_same(layer_class, cell_class, x, state_of(cell_class, 4), reverse, lengths=lengths)
    assert_same(layer_class, cell_class, x, None, reverse, lengths=lengths)


@REVERSE
@pytest.mark.parametrize("cell_class", [RNNCell, LSTMCell, GRUCell])
def test_layer(cell_class, reverse):
    recurrence = Recurrence(cell_class(2, 3), reverse=reverse)
    # input_gradient=False leaves out the gradient of one of the two inputs alone: a test of its own below
    skip = ["input_gradient"]
    given = {"kwargs": {"lengths": [2, 0, 3]}, "batch_dim": None} if reverse else {"batch_dim": [1, 0]}
    check_layer(recurrence, torch.randn(3, 3, 2), state_of(cell_class, 3, 3), skip=skip, samples=4, **given)


def test_without_the_inputs_gradient():
    """The state's gradient and those of the weights stay what they are."""
    recurrence, x = Recurrence(LSTMCell(3, 4, dtype=torch.float64)), torch.randn(5, 2, 3, dtype=torch.float64)
    found = []
    for wanted in (True, False):
        recurrence.zero_grad()
        with record():
            y, _ = recurrence(x)
            dx, dfirst = recurrence.backward(torch.cos(y), input_gradient=wanted)
        assert (dx is not None) is wanted
        found.append([*dfirst, *(parameter.grad for parameter in recurrence.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


class Sum(Module):
    """A cell of three lines, h' = h + W x, as a learner would write it."""

    def __init__(self):
        self.input_size = 2
        self.product = Linear(2, 3, bias=False, dtype=torch.float64)

    def initial_state(self, x):
        return x.new_zeros(len(x), 3)

    def forward(self, input, hx):
        return hx + self.product.forward(input)

    def backward(self, dh, *, input_gradient=True):
        return self.product.backward(dh, input_gradient=input_gradient), dh


def test_a_cell_of_ones_own():
    """Its state is a running sum, and so is, from the end, its gradient."""
    recurrence, x = Recurrence(Sum()), torch.randn(4, 2, 2, dtype=torch.float64)
    with record():
        y, last = recurrence(x)
        dx, dfirst = recurrence.backward(torch.ones_like(y))
    weight = recurrence.cell.product.weight
    torch.testing.assert_close(y, (x @ weight.t()).cumsum(0))
    assert torch.equal(last, y[3])
    torch.testing.assert_close(dfirst, torch.full((2, 3), 4.0, dtype=torch.float64))
    torch.testing.assert_close(dx[1], 3 * weight.sum(0).expand(2, 2))
    check_layer(Recurrence(Sum()), x, last, batch_dim=[1, 0], skip=["input_gradient"], samples=4)


def test_worked_example():
    cell = RNNCell(1, 1, bias=False, dtype=torch.float64)
    cell.load_state_dict({"weight_ih": torch.tensor([[1.0]]), "weight_hh": torch.tensor([[0.5]])})
    recurrence = Recurrence(cell)
    x = torch.tensor([[0.5, 1.0], [-1.0, 9.0]], dtype=torch.float64)[..., None]
    with record():
        y, last = recurrence(x, lengths=[2, 1])
        dy = torch.tensor([[0.5, 0.0], [0.0, 0.0]], dtype=torch.float64)[..., None]
        dx, dfirst = recurrence.backward(dy, torch.ones_like(last))

    def same(given, *expected):
        torch.testing.assert_close(given.flatten().float(), torch.tensor(expected), rtol=0, atol=6e-5)

    same(y, 0.4621, 0.7616, -0.6463, 0)
    same(last, -0.6463, 0.7616)
    same(torch.tanh(torch.tensor([-0.7689])), -0.6463)
    same(dx, 0.6222, 0.4200, 0.5823, 0)
    same(torch.tensor([0.5 + 0.5 * 0.5823]), 0.7911)
    same(dfirst, 0.3111, 0.2100)
    same(cell.weight_ih.grad, 0.1488)
    same(cell.weight_hh.grad, 0.2691)


@pytest.mark.parametrize("hx", [torch.zeros(3, 4), torch.zeros(2, 5), torch.zeros(4), torch.zeros(2, 2, 4)])
def test_a_state_of_another_shape(hx):
    with pytest.raises(ShapeError, match=r"Recurrence.*given a state of shapes .* as hx, expected \[\(2, 4\)\]"):
        Recurrence(GRUCell(3, 4))(torch.zeros(5, 2, 3), hx)


def test_half_a_state():
    with pytest.raises(ShapeError, match=r"shapes \[\(2, 4\)\] as hx, expected \[\(2, 4\), \(2, 4\)\]"):
        Recurrence(LSTMCell(3, 4))(torch.zeros(5, 2, 3), torch.zeros(2, 4))


def test_a_state_of_another_dtype():
    with pytest.raises(ShapeError, match=r"given hx in torch.float64 beside input in torch.float32"):
        Recurrence(GRUCell(3, 4))(torch.zeros(5, 2, 3), torch.zeros(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("lengths", [[1], [1, 6], [1, -1], [1, 1.5]])
def test_impossible_lengths(lengths):
    with pytest.raises(ShapeError, match=r"(?s)Recurrence.*given lengths"):
        Recurrence(GRUCell(3, 4))(torch.zeros(5, 2, 3), lengths=lengths)


def test_no_cell():
    with pytest.raises(TypeError, match=r"Recurrence: given Linear\(.*\), which has no initial_state: see docs"):
        Recurrence(Linear(3, 4))
    layer = Linear(3, 4)
    layer.initial_state = torch.zeros_like
    with pytest.raises(TypeError, match=r"which has no input_size: see docs/recurrence.md"):
        Recurrence(layer)
    with pytest.raises(TypeError, match="Recurrence: "):
        Recurrence(SimpleNamespace(initial_state=None))


def test_a_state_that_loses_a_tensor(monkeypatch):
    cell = LSTMCell(3, 4)
    monkeypatch.setattr(cell, "forward", lambda input, hx: hx[0])
    with pytest.raises(
        ValueError, match=r"LSTMCell\(3, 4\) makes a state of 1 tensors from one of 2, expected as many"
    ):
        Recurrence(cell)(torch.zeros(5, 2, 3))


@PAIRS
def test_memory_grows_with_the_steps(layer_class, cell_class):
    """No state is kept twice, and nothing of size T squared."""
    kept = []
    for steps in (10, 20, 30):
        recurrence = Recurrence(cell_class(3, 4))
        with record() as trace:
            recurrence(torch.randn(steps, 2, 3))
            kept.append(sum(line.bytes for line in trace.kept()))
            trace.take()
    assert kept[2] - kept[1] == kept[1] - kept[0] > 0


def test_compiles_whole():
    recurrence, x = Recurrence(RNNCell(3, 4)), torch.randn(2, 3, 3)

    def step(x):
        recurrence.zero_grad()
        with record():
            y, _ = recurrence(x, lengths=[1, 0, 2])
            dx, _ = recurrence.backward(torch.cos(y))
            return y, dx, recurrence.cell.weight_hh.grad

    compiled = one_graph(step)
    torch.testing.assert_close(compiled(x), step(x))


@pytest.mark.parametrize("lengths", [None, [2, 0, 5]], ids=["full", "lengths"])
def test_as_torch(lengths):
    """In a model of torch.nn, with autograd around it."""
    recurrence, x = Recurrence(LSTMCell(3, 4, dtype=torch.float64)), torch.randn(5, 3, 3, dtype=torch.float64)
    state = tuple(torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    found = []
    for one in (recurrence, as_torch(recurrence)):
        leaves = [tensor.clone().requires_grad_() for tensor in (x, *state)]
        y, (h, c) = one(leaves[0], (leaves[1], leaves[2]), lengths=lengths)
        found.append(torch.autograd.grad(torch.sin(y).sum() + (h * c).sum(), leaves))
    for given, expected in zip(*found, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)


def test_bfloat16():
    recurrence, x = Recurrence(LSTMCell(3, 4, dtype=torch.bfloat16)), torch.randn(5, 2, 3, dtype=torch.bfloat16)
    wide = Recurrence(LSTMCell(3, 4))
    wide.load_state_dict(recurrence.state_dict())
    with record():
        y, _ = recurrence(x)
        dx, _ = recurrence.backward(torch.ones_like(y))
    with record():
        expected, _ = wide(x.float())
        dexpected, _ = wide.backward(torch.ones_like(expected))
    assert y.dtype == dx.dtype == recurrence.cell.weight_hh.grad.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.1)
    torch.testing.assert_close(dx.float(), dexpected, rtol=0, atol=0.2)


def test_repr():
    assert "batch_first=True, reverse=True" in repr(Recurrence(RNNCell(3, 4), batch_first=True, reverse=True))
    assert "batch_first" not in repr(Recurrence(RNNCell(3, 4)))


def test_the_cell_on_the_page():
    page = (Path(__file__).resolve().parents[1] / "docs" / "recurrence.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {"__name__": "page"})  # its last two lines check every gradient
