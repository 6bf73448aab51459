import pytest
import torch
from ds_core import Module, ShapeError, TraceError, record
from ds_core.testing import check_layer, check_twin, check_twin_grid, one_graph
from ds_rnn import RNNCell, plain_rnn_cell, plain_rnn_cell_backward, rnn_cell, rnn_cell_backward
from torch import Tensor

NONLINEARITIES = pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
BIAS = pytest.mark.parametrize("bias", [True, False])
BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])


@BOTH
@NONLINEARITIES
@BIAS
def test_layer(nonlinearity, bias, implementation):
    # input_gradient=False leaves out the gradient of one of the two inputs alone: a test of its own below
    inputs = torch.randn(5, 3), torch.randn(5, 4)
    cell = RNNCell(3, 4, bias, nonlinearity, implementation=implementation)
    check_layer(cell, *inputs, skip=["input_gradient"])


@BOTH
@NONLINEARITIES
def test_one_example_without_batch(nonlinearity, implementation):
    ours = RNNCell(3, 4, nonlinearity=nonlinearity, implementation=implementation)
    theirs = torch.nn.RNNCell(3, 4, nonlinearity=nonlinearity)
    check_twin(ours, theirs, torch.randn(3), torch.randn(4))


def test_twin_over_all_arguments():
    compared = check_twin_grid(
        RNNCell,
        torch.nn.RNNCell,
        {
            "input_size": [1, 3],
            "hidden_size": [1, 4],
            "bias": [True, False],
            "nonlinearity": ["tanh", "relu"],
            "dtype": [None, torch.float64],
        },
        lambda chosen: [torch.randn(2, chosen["input_size"]), torch.randn(2, chosen["hidden_size"])],
    )
    assert compared == 32


def test_without_a_state_it_is_zeros():
    cell, x, dh = RNNCell(3, 4, dtype=torch.float64), torch.randn(2, 3).double(), torch.randn(2, 4).double()
    given = []
    for state in ((), (torch.zeros(2, 4).double(),)):
        cell.zero_grad()
        with record():
            h = cell(x, *state)
            given.append([h, *cell.backward(dh), *(parameter.grad for parameter in cell.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*given, strict=True))


class Unrolled(Module):
    """The cell over a sequence (T, N, I), its last state out: backpropagation through time by the trace alone."""

    def __init__(self, cell):
        self.cell = cell

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        for step in x.unbind(0):
            h = self.cell.forward(step, h)
        self.save(x.shape[0])
        return h

    def backward(self, dh: Tensor, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        (length,) = self.saved()
        steps = []
        for _ in range(length):
            dx, dh = self.cell.backward(dh)
            steps.insert(0, dx)
        return torch.stack(steps), dh


@NONLINEARITIES
def test_through_time(nonlinearity):
    """Five steps through one cell: every weight's gradient is a sum over the steps."""
    net = Unrolled(RNNCell(3, 4, nonlinearity=nonlinearity, dtype=torch.float64))
    theirs = torch.nn.RNN(3, 4, nonlinearity=nonlinearity, dtype=torch.float64)
    theirs.load_state_dict({f"{name}_l0": tensor for name, tensor in net.cell.state_dict().items()})
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    dh = torch.randn(2, 4, dtype=torch.float64)
    _, last = theirs(x, h[None])
    last[0].backward(dh)
    with record():
        net(x.detach(), h.detach())
        dx, dh0 = net.backward(dh)
    torch.testing.assert_close(dx, x.grad)
    torch.testing.assert_close(dh0, h.grad)
    for name, parameter in net.cell.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(theirs, f"{name}_l0").grad)


@BOTH
@NONLINEARITIES
def test_without_the_input_s_gradient_time_is_not_cut_short(nonlinearity, implementation):
    cell = RNNCell(3, 4, nonlinearity=nonlinearity, dtype=torch.float64, implementation=implementation)
    x, dlast = torch.randn(4, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    found = []
    for input_gradient in (True, False):
        cell.zero_grad()
        with record():
            h, dh = None, dlast
            for step in x:
                h = cell(step, h)
            for _ in x:
                dx, dh = cell.backward(dh, input_gradient=input_gradient)
                assert (dx is not None) == input_gradient
        found.append([dh, *(parameter.grad for parameter in cell.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_two_biases_have_gradients_of_their_own():
    cell = RNNCell(3, 4)
    with record():
        cell.backward(torch.ones_like(cell(torch.randn(2, 3))))
    assert torch.equal(cell.bias_ih.grad, cell.bias_hh.grad)
    cell.bias_ih.grad.zero_()
    assert cell.bias_hh.grad.abs().sum() > 0


def test_same_generator_same_weights():
    first, second = (RNNCell(3, 4, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@BOTH
def test_bfloat16(implementation):
    cell = RNNCell(8, 8, dtype=torch.bfloat16, implementation=implementation)
    with record():
        h = cell(torch.randn(4, 8, dtype=torch.bfloat16))
        dx, dh = cell.backward(torch.ones_like(h))
    assert {t.dtype for t in (h, dx, dh, cell.weight_ih.grad)} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("forward", "backward"), [(rnn_cell, rnn_cell_backward), (plain_rnn_cell, plain_rnn_cell_backward)]
)
def test_worked_example(forward, backward):
    x, h = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]])
    weight_ih, weight_hh = torch.tensor([[0.1, 0.2], [-0.3, 0.4]]), torch.tensor([[0.5, 0.0], [0.2, -0.1]])
    bias_ih, bias_hh = torch.tensor([0.05, 0.1]), torch.tensor([-0.05, 0.0])
    a = x @ weight_ih.t() + bias_ih + h @ weight_hh.t() + bias_hh
    h_next = forward(x, h, weight_ih, weight_hh, bias_ih, bias_hh, "tanh")
    dx, dh, dweight_ih, dweight_hh, dbias = backward(
        torch.tensor([[1.0, -0.5]]), x, h, h_next, weight_ih, weight_hh, "tanh"
    )

    def same(given, expected):
        torch.testing.assert_close(given, torch.tensor(expected), atol=6e-5, rtol=0)

    same(a, [[0.1 + 0.4 + 0.25, -0.3 + 0.8 + 0.1 + 0.1 + 0.1]])
    same(a, [[0.75, 0.8]])
    same(h_next, [[0.6351, 0.6640]])
    same(dbias, [0.5966, -0.2795])
    same(dx, [[0.1435, 0.0075]])
    same(dh, [[0.2424, 0.0280]])
    same(dweight_ih, [[0.5966, 1.1932], [-0.2795, -0.5591]])
    same(dweight_hh, [[0.2983, -0.5966], [-0.1398, 0.2795]])


def test_unknown_nonlinearity():
    with pytest.raises(ValueError, match=r"nonlinearity='gelu', expected \"tanh\" or \"relu\""):
        RNNCell(3, 4, nonlinearity="gelu")


def test_unknown_implementation():
    with pytest.raises(ValueError, match=r"implementation='fast', expected one of \['loops', 'vectorized'\]"):
        RNNCell(3, 4, implementation="fast")


def test_frozen_weights_get_no_gradient_from_the_loops():
    cell = RNNCell(3, 4, implementation="loops")
    cell.weight_hh.requires_grad_(False)
    cell.bias_hh.requires_grad_(False)
    with record():
        cell.backward(torch.ones_like(cell(torch.randn(2, 3))))
    assert [name for name, parameter in cell.named_parameters() if parameter.grad is not None] == [
        "weight_ih",
        "bias_ih",
    ]


@pytest.mark.parametrize(
    ("x", "h"),
    [((2, 4), None), ((2, 2, 3), None), ((), None), ((2, 3), (3, 4)), ((2, 3), (2, 5)), ((2, 3), (4,)), ((3,), (1, 4))],
)
def test_impossible_inputs(x, h):
    inputs = [torch.zeros(shape) for shape in (x, h) if shape is not None]
    with pytest.raises(ShapeError, match=r"RNNCell.*given .* of shape"):
        RNNCell(3, 4)(*inputs)


def test_backward_twice():
    cell = RNNCell(3, 4)
    with record():
        cell.backward(cell(torch.zeros(1, 3)))
        with pytest.raises(TraceError, match="RNNCell"):
            cell.backward(torch.zeros(1, 4))


def test_compiles_whole():
    cell, x, h = RNNCell(3, 4), torch.randn(2, 3), torch.randn(2, 4)

    def step(x, h):
        cell.zero_grad()
        with record():
            h_next = cell(x, h)
            return h_next, *cell.backward(h_next), cell.weight_hh.grad

    compiled = one_graph(step)
    torch.testing.assert_close(compiled(x, h), step(x, h))
