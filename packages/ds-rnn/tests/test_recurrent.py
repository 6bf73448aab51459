"""What RNN, LSTM and GRU share: random cases against torch.nn, the checks of layers, lengths, first values."""

import hypothesis
import pytest
import torch
from ds_core import record
from ds_core.testing import check_layer
from ds_rnn import GRU, LSTM, RNN
from hypothesis import strategies
from random_cases import check_layer_case, in_pairs, layer_results, random_states, same

CLASSES = pytest.mark.parametrize("layer_class", [RNN, LSTM, GRU])
BOTH = pytest.mark.parametrize("implementation", ["vectorized", "loops"])
DOUBLE = {"dtype": torch.float64}


def test_worked_example():
    # docs/recurrent.md
    layer = RNN(1, 1, nonlinearity="relu", bias=False, bidirectional=True, **DOUBLE)
    for name, weight in layer.named_parameters():
        weight.data.fill_(1 if "ih" in name else 0.5)
    x = torch.tensor([[1.0], [2.0]], **DOUBLE)
    with record():
        y, _ = layer(x)
        dx, _ = layer.backward(torch.tensor([[1.0, -1.0], [0.0, 2.0]], **DOUBLE))
    assert y.tolist() == [[1, 2], [2.5, 2]]
    assert dx.tolist() == [[0], [1.5]]  # (1, 0) by the first direction, (-1, 2 - 0.5) by the second


@CLASSES
@pytest.mark.parametrize("tens", range(10))
def test_random_cases(layer_class, tens):
    for seed in range(10 * tens, 10 * tens + 10):
        check_layer_case(layer_class, seed)


# input_gradient=False leaves out the gradient of one of several inputs alone: the random cases try that
SKIPPED = ["input_gradient"]


@CLASSES
def test_layer(layer_class):
    layer = layer_class(2, 3, 2, bidirectional=True, dropout=0.5)
    inputs = (torch.randn(3, 2, 2), in_pairs(random_states(layer, 2)))
    check_layer(layer, *inputs, batch_dim=[1, 1], skip=SKIPPED, samples=2)


@CLASSES
def test_layer_by_loops(layer_class):
    layer = layer_class(1, 2, implementation="loops")
    inputs = (torch.randn(2, 2, 1), in_pairs(random_states(layer, 2)))
    check_layer(layer, *inputs, batch_dim=[1, 1], skip=SKIPPED, samples=1)


@CLASSES
@pytest.mark.parametrize("form", [{"lengths": [2, 0, 3]}, {"lengths": torch.tensor([3, 3, 3])}])
def test_layer_with_lengths(layer_class, form):
    layer = layer_class(2, 2, batch_first=True, bidirectional=True)
    inputs = (torch.randn(3, 3, 2), in_pairs(random_states(layer, 3)))
    check_layer(layer, *inputs, kwargs=form, batch_dim=None, skip=SKIPPED, samples=2)


@CLASSES
@hypothesis.settings(deadline=None, max_examples=10)
@hypothesis.given(
    seed=strategies.integers(0, 2**32),
    steps=strategies.integers(1, 3),
    sequences=strategies.integers(0, 3),
    sizes=strategies.tuples(strategies.integers(1, 3), strategies.integers(1, 3)),
    bidirectional=strategies.booleans(),
    data=strategies.data(),
)
def test_both_implementations_agree(layer_class, seed, steps, sequences, sizes, bidirectional, data):
    torch.manual_seed(seed)
    fast = layer_class(*sizes, bidirectional=bidirectional, **DOUBLE)
    slow = layer_class(*sizes, bidirectional=bidirectional, implementation="loops", **DOUBLE)
    slow.load_state_dict(fast.state_dict())
    x, states = torch.randn(steps, sequences, sizes[0], dtype=torch.float64), random_states(fast, sequences)
    lengths = data.draw(strategies.lists(strategies.integers(0, steps), min_size=sequences, max_size=sequences))
    for one, other in zip(*(layer_results(layer, x, states, lengths=lengths) for layer in (fast, slow)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@CLASSES
@BOTH
def test_lengths_of_zero(layer_class, implementation):
    """Such a sequence has output and gradient 0, its state stays; the others are as if it were not there."""
    layer = layer_class(2, 3, bidirectional=True, batch_first=True, implementation=implementation, **DOUBLE)
    x, states = torch.randn(3, 4, 2, dtype=torch.float64), random_states(layer, 3)
    grads = [torch.randn(3, 4, 6, dtype=torch.float64), *(torch.randn_like(state) for state in states)]
    some = layer_results(layer, x, states, grads=grads, lengths=[2, 0, 4])
    others = torch.tensor([0, 2])
    alone = layer_results(
        layer,
        x[others],
        [state[:, others] for state in states],
        grads=[grads[0][others], *(grad[:, others] for grad in grads[1:])],
        lengths=[2, 4],
    )
    count = len(states)
    for index, (one, other) in enumerate(zip(some, alone, strict=True)):
        of_batch = index in (0, count + 1)
        is_state = 0 < index < 2 * count + 2 and not of_batch
        same(one[others] if of_batch else one[:, others] if is_state else one, other)
    y, dx = some[0], some[count + 1]
    assert not y[1].any()
    assert not dx[1].any()
    assert not y[0, 2:].any()
    assert not dx[0, 2:].any()
    for index, state in enumerate(states):
        assert torch.equal(some[1 + index][:, 1], state[:, 1])
        assert torch.equal(some[count + 2 + index][:, 1], grads[1 + index][:, 1])


@CLASSES
@BOTH
@pytest.mark.parametrize("shape", [(4, 2, 2), (0, 2, 2), (4, 0, 2)])
def test_no_sequence_has_a_step(layer_class, implementation, shape):
    layer = layer_class(2, 3, 2, bidirectional=True, implementation=implementation, **DOUBLE)
    x, states = torch.randn(shape, dtype=torch.float64), random_states(layer, shape[1])
    y, *rest = layer_results(layer, x, states, lengths=[0] * shape[1])
    count = len(states)
    last, dx, dfirst, dweights = rest[:count], rest[count], rest[count + 1 : 2 * count + 1], rest[2 * count + 1 :]
    assert y.shape == (*shape[:2], 6)
    assert not y.any()
    assert dx.shape == x.shape
    assert not dx.any()
    assert all(torch.equal(one, state) for one, state in zip(last, states, strict=True))
    assert all(torch.equal(one, torch.cos(state)) for one, state in zip(dfirst, states, strict=True))
    assert not any(gradient.any() for gradient in dweights)


@CLASSES
def test_padding_is_never_read(layer_class):
    layer = layer_class(2, 3, 2, bidirectional=True, **DOUBLE)
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    poisoned = x.clone()
    poisoned[2:, 0], poisoned[3:, 2] = torch.nan, torch.inf
    grads = [torch.randn(4, 3, 6, dtype=torch.float64), *(torch.randn_like(s) for s in random_states(layer, 3))]
    clean = layer_results(layer, x, grads=grads, lengths=[2, 4, 3])
    grads[0][2:, 0] = torch.nan
    found = layer_results(layer, poisoned, grads=grads, lengths=[2, 4, 3])
    assert all(torch.equal(one, other) for one, other in zip(clean, found, strict=True))


@CLASSES
def test_without_states_they_are_zeros(layer_class):
    layer = layer_class(2, 3, 2, **DOUBLE)
    x = torch.randn(4, 3, 2, dtype=torch.float64)
    zeros = [torch.zeros_like(state) for state in random_states(layer, 3)]
    found = zip(layer_results(layer, x), layer_results(layer, x, zeros), strict=True)
    assert all(torch.equal(one, other) for one, other in found)


@CLASSES
def test_the_two_biases_have_gradients_of_their_own(layer_class):
    layer = layer_class(2, 3)
    with record():
        y, _ = layer(torch.randn(2, 2, 2))
        layer.backward(torch.ones_like(y))
    layer.bias_ih_l0.grad.zero_()
    assert layer.bias_hh_l0.grad.abs().sum() > 0


@CLASSES
def test_same_generator_same_weights(layer_class):
    first, second = (layer_class(2, 3, 2, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@CLASSES
def test_shown_as_the_twin(layer_class):
    arguments = {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True}
    twin = getattr(torch.nn, layer_class.__name__)
    for given in ({}, *({name: value} for name, value in arguments.items())):
        given = {"num_layers": 2, **given}
        assert repr(layer_class(2, 3, **given)) == repr(twin(2, 3, **given))
