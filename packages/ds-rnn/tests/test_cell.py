"""What RNNCell, LSTMCell and GRUCell share: random cases against torch.nn, dtypes, compilation, refusals."""

import copy

import hypothesis
import pytest
import torch
from ds_core import ShapeError, TraceError, record
from ds_core.testing import check_layer, one_graph
from ds_rnn import GRUCell, LSTMCell, RNNCell
from ds_rnn.recurrent.cell import fast_tanh
from hypothesis import strategies
from random_cases import check_cell_case, in_pairs, tensors

CLASSES = pytest.mark.parametrize("cell_class", [RNNCell, LSTMCell, GRUCell])
BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])


def results(cell, x, states=()):
    """Everything a step and its backward give: states, dx, dstates, and the gradients of parameters."""
    cell.zero_grad()
    with record():
        found = tensors(cell(x, *([in_pairs(list(states))] if states else [])))
        dx, dfirst = cell.backward(*map(torch.cos, found))
    return [*found, dx, *tensors(dfirst), *(parameter.grad for parameter in cell.parameters())]


@CLASSES
@pytest.mark.parametrize("tens", range(10))
def test_random_cases(cell_class, tens):
    for seed in range(10 * tens, 10 * tens + 10):
        check_cell_case(cell_class, seed)


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell])  # RNNCell: test_rnn_cell.py
@BOTH
@pytest.mark.parametrize("bias", [True, False])
def test_cell(cell_class, implementation, bias):
    # input_gradient=False leaves out the gradient of one of several inputs alone: the random cases try that
    cell = cell_class(3, 2, bias, implementation=implementation)
    states = in_pairs([torch.randn(3, 2) for _ in cell.state_names])
    check_layer(cell, torch.randn(3, 3), states, skip=["input_gradient"], samples=3)


@CLASSES
@hypothesis.settings(deadline=None, max_examples=20)
@hypothesis.given(
    seed=strategies.integers(0, 2**32),
    sizes=strategies.tuples(strategies.integers(0, 3), strategies.integers(1, 3)),
    batch=strategies.lists(strategies.integers(0, 3), max_size=1),
    scale=strategies.sampled_from([1.0, 1e-3, 1e4]),
)
def test_both_implementations_agree(cell_class, seed, sizes, batch, scale):
    torch.manual_seed(seed)
    fast = cell_class(*sizes, dtype=torch.float64)
    slow = cell_class(*sizes, implementation="loops", dtype=torch.float64)
    slow.load_state_dict(fast.state_dict())
    x = scale * torch.randn(*batch, sizes[0], dtype=torch.float64)
    states = [torch.randn(*batch, sizes[1], dtype=torch.float64) for _ in fast.state_names]
    for one, other in zip(*(results(cell, x, states) for cell in (fast, slow)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@CLASSES
def test_without_states_they_are_zeros(cell_class):
    cell, x = cell_class(3, 4), torch.randn(2, 3)
    zeros = [torch.zeros(2, 4) for _ in cell.state_names]
    assert all(torch.equal(one, other) for one, other in zip(results(cell, x), results(cell, x, zeros), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(tensors(cell.initial_state(x)), zeros, strict=True))


@CLASSES
def test_extreme_inputs(cell_class):
    """Gates far out are 0 or 1 and nothing overflows, in either engine."""
    cell, twin = cell_class(1, 2), getattr(torch.nn, cell_class.__name__)(1, 2)
    twin.load_state_dict(cell.state_dict())
    x = torch.tensor([[1e4], [-1e4], [0.0]])
    found, leaf = results(cell, x), x.clone().requires_grad_()
    for expected in (tensors(twin(leaf)), tensors(cell(leaf))):
        leaf.grad = None
        torch.autograd.backward(expected, [torch.cos(state.detach()) for state in expected])
        for one, other in zip(found, [*expected, leaf.grad], strict=False):
            torch.testing.assert_close(one, other.detach(), rtol=1e-5, atol=1e-6)


@CLASSES
@BOTH
def test_bfloat16(cell_class, implementation):
    """Dtypes are kept, and results are near those of float32."""
    half = cell_class(4, 8, dtype=torch.bfloat16, implementation=implementation)
    wide = copy.deepcopy(half).float()
    x, states = torch.randn(3, 4).bfloat16(), [torch.randn(3, 8).bfloat16() for _ in half.state_names]
    found = results(half, x, states)
    assert {tensor.dtype for tensor in found} == {torch.bfloat16}
    for mine, other in zip(found, results(wide, x.float(), [state.float() for state in states]), strict=True):
        assert (mine.float() - other).norm() <= 0.04 * other.norm()


@CLASSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_state", [None, torch.float32, torch.bfloat16])
def test_autocast(cell_class, dtype, of_state):
    """Under autocast a step is calculated in the dtype of the parameters, and gradients come in that of inputs."""
    cell, x = cell_class(3, 4), torch.randn(2, 3).to(dtype)
    states = [] if of_state is None else [torch.randn(2, 4).to(of_state) for _ in cell.state_names]
    expected = results(cell, x.float(), [state.float() for state in states])
    with torch.autocast("cpu", torch.bfloat16):
        found = results(cell, x, states)
    kinds = len(cell.state_names)
    expected[kinds] = expected[kinds].to(dtype)
    for index in range(kinds + 1, 2 * kinds + 1):
        expected[index] = expected[index].to(of_state or dtype)
    assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@CLASSES
def test_a_state_that_is_no_tensor(cell_class):
    state = [torch.zeros(2, 4)] if cell_class is not LSTMCell else (torch.zeros(2, 4), 1.0)
    with pytest.raises(TypeError, match=r"Cell\(3, 4\): given .* as hx.*, expected a tensor"):
        cell_class(3, 4)(torch.randn(2, 3), state)


@CLASSES
@BOTH
@pytest.mark.parametrize("frozen", [("weight_ih", "bias_ih"), ("weight_hh", "bias_hh")])
def test_frozen_weights_get_no_gradient(cell_class, implementation, frozen):
    cell = cell_class(3, 4, implementation=implementation)
    for name in frozen:
        getattr(cell, name).requires_grad_(False)
    with record():
        cell.backward(*map(torch.ones_like, tensors(cell(torch.randn(2, 3)))))
    assert {name for name, parameter in cell.named_parameters() if parameter.grad is None} == set(frozen)


@CLASSES
def test_the_two_biases_have_gradients_of_their_own(cell_class):
    cell = cell_class(3, 4)
    with record():
        cell.backward(torch.ones_like(tensors(cell(torch.randn(2, 3)))[0]))
    cell.bias_ih.grad.zero_()
    assert cell.bias_hh.grad.abs().sum() > 0


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell])  # RNNCell: test_rnn_cell.py
def test_compiles_whole(cell_class):
    cell = cell_class(3, 4)
    states = [torch.randn(2, 4) for _ in cell.state_names]

    def step(x, *states):
        cell.zero_grad()
        with record():
            found = cell(x, in_pairs(list(states)))
            return found, cell.backward(*tensors(found)), [parameter.grad for parameter in cell.parameters()]

    compiled = one_graph(step)
    for _ in range(2):
        x = torch.randn(2, 3)
        torch.testing.assert_close(compiled(x, *states), step(x, *states))


@CLASSES
def test_same_generator_same_weights(cell_class):
    first, second = (cell_class(3, 4, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@CLASSES
def test_shown_as_the_twin(cell_class):
    twin = getattr(torch.nn, cell_class.__name__)
    for arguments in ((3, 4), (3, 4, False)):
        assert repr(cell_class(*arguments)) == repr(twin(*arguments))


@CLASSES
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, 4), ValueError, "input_size=-1, expected 0 or more"),
        ((3, 0), ValueError, "hidden_size=0, expected 1 or more"),
        ((3, 4.0), TypeError, r"hidden_size=4\.0, expected a whole number"),
    ],
)
def test_impossible_sizes(cell_class, arguments, error, message):
    with pytest.raises(error, match=f"{cell_class.__name__}: given {message}"):
        cell_class(*arguments)


@CLASSES
def test_unknown_implementation(cell_class):
    with pytest.raises(ValueError, match=r"implementation='fast', expected one of \['loops', 'vectorized'\]"):
        cell_class(3, 4, implementation="fast")


@CLASSES
@pytest.mark.parametrize(
    ("x", "h"),
    [((2, 4), None), ((2, 2, 3), None), ((), None), ((2, 3), (3, 4)), ((2, 3), (2, 5)), ((2, 3), (4,)), ((3,), (1, 4))],
)
def test_impossible_shapes(cell_class, x, h):
    cell = cell_class(3, 4)
    states = [] if h is None else [in_pairs([torch.zeros(h) for _ in cell.state_names])]
    with pytest.raises(ShapeError, match=rf"{cell_class.__name__}\(3, 4\): given .* of shape .*, expected"):
        cell(torch.zeros(x), *states)


@CLASSES
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_other_dtypes(cell_class, dtype):
    cell = cell_class(3, 4)
    with pytest.raises(ShapeError, match=rf"{cell_class.__name__}\(3, 4\): .*{dtype}"):
        cell(torch.zeros(2, 3, dtype=dtype))
    states = in_pairs([torch.zeros(2, 4, dtype=dtype) for _ in cell.state_names])
    with pytest.raises(ShapeError, match=rf"given hx.* in {dtype} beside input in torch.float32: convert one"):
        cell(torch.zeros(2, 3), states)


@CLASSES
def test_backward_twice(cell_class):
    cell = cell_class(3, 4)
    with record():
        cell(torch.zeros(1, 3))
        cell.backward(torch.zeros(1, 4))
        with pytest.raises(TraceError, match=cell_class.__name__):
            cell.backward(torch.zeros(1, 4))


def test_fast_tanh():
    x = torch.tensor([0.0, 1e-9, -0.5, 3.0, 1e4, -1e4, torch.inf, -torch.inf])
    torch.testing.assert_close(fast_tanh(x), torch.tanh(x), rtol=0, atol=3e-7)
    kept = x.clone()
    with record():
        torch.testing.assert_close(fast_tanh(x), torch.tanh(x), rtol=0, atol=3e-7)
        assert torch.equal(x, kept)
        torch.testing.assert_close(fast_tanh(x, out=x), torch.tanh(kept), rtol=0, atol=3e-7)
    assert not torch.equal(x, kept)
