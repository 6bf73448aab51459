"""Random cases of a layer or a cell against the torch.nn class of its name: all arguments, forms and gradients."""

import random
from typing import NamedTuple

import torch
from ds_core import record
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

FORMS = ("alone", "padded", "lengths", "packed sorted", "packed unsorted", "packed by another class")


class Steps(NamedTuple):
    """A packed batch of a class of one's own, its fields in another order than PyTorch's."""

    batch_sizes: Tensor
    unsorted_indices: Tensor | None
    sorted_indices: Tensor | None
    data: Tensor


def check_layer_case(ours_class, seed):
    """One draw of constructor and forward arguments, input form, gradients given and asked for."""
    draws = random.Random(seed)
    form = draws.choice(FORMS)
    ours, theirs = same_layers(ours_class, layer_arguments(ours_class, draws), seed, draws)
    count = ours.num_layers * (2 if ours.bidirectional else 1)
    steps, sequences = draws.randint(1, 4), 1 if form == "alone" else draws.randint(1, 4)
    padded = torch.randn(steps, sequences, ours.input_size, dtype=torch.float64)
    lengths = [draws.randint(1, steps) for _ in range(sequences)]
    lengths[draws.randrange(sequences)] = steps
    if form == "packed sorted":
        lengths.sort(reverse=True)
    x = padded.transpose(0, 1) if ours.batch_first else padded
    x = padded[:, 0] if form == "alone" else x
    leaf = x.clone().requires_grad_()

    sizes = (getattr(ours, "proj_size", 0) or ours.hidden_size, ours.hidden_size)[: len(ours.state_names)]
    shape = (count,) if form == "alone" else (count, sequences)
    states = [torch.randn(*shape, size, dtype=torch.float64) for size in sizes] if draws.random() < 0.6 else []
    leaves = [state.clone().requires_grad_() for state in states]

    packed = form.startswith("packed")
    given = leaf
    if packed or form == "lengths":
        given = pack_padded_sequence(leaf, lengths, ours.batch_first, enforce_sorted=form == "packed sorted")
    expected, last = theirs(given, *([in_pairs(leaves)] if leaves else []))
    if form == "lengths":
        expected, _ = pad_packed_sequence(expected, ours.batch_first)
    shown = expected.data if packed else expected
    wanted = [torch.randn_like(tensor) for tensor in (shown, *tensors(last))]
    chosen = [gradient if draws.random() < 0.8 else None for gradient in wanted]
    if all(gradient is None for gradient in chosen):
        chosen[0] = wanted[0]
    pairs = [(y, dy) for y, dy in zip((shown, *tensors(last)), chosen, strict=True) if dy is not None]
    torch.autograd.backward([y for y, _ in pairs], [dy for _, dy in pairs])

    arguments = {"lengths": draws.choice([list, tuple, torch.tensor])(lengths)} if form == "lengths" else {}
    input_gradient = draws.random() < 0.8
    with record():
        if packed:
            mine = PackedSequence(given.data.detach(), *given[1:])
            x = Steps(*(getattr(mine, name) for name in Steps._fields)) if form.endswith("class") else mine
        y, found = ours(x, *([in_pairs(states)] if states else []), **arguments)
        dy = type(y)(**(fields_of(y) | {"data": chosen[0]})) if packed and chosen[0] is not None else chosen[0]
        rest = [in_pairs(chosen[1:])]
        if all(gradient is None for gradient in chosen[1:]):
            rest = draws.choice([[], [None], rest])
        dx, dfirst = ours.backward(dy, *rest, input_gradient=input_gradient)
    if packed:
        assert type(y) is type(x)
        assert all(getattr(y, name) is getattr(x, name) for name in ("batch_sizes", "sorted_indices"))
        y, expected = y.data, expected.data
    same(y, expected)
    for mine, other in zip(tensors(found), tensors(last), strict=True):
        same(mine, other)
    if not input_gradient:
        assert dx is None
    elif packed:
        assert type(dx) is type(x)
        same(pad_packed_sequence(PackedSequence(dx.data, *given[1:]), ours.batch_first)[0], leaf.grad)
    else:
        same(dx, leaf.grad)
    for mine, state in zip(tensors(dfirst), leaves, strict=False):
        same(mine, state.grad)
    same_parameter_gradients(ours, theirs)


def check_cell_case(ours_class, seed):
    """One draw of a cell's arguments, with or without batch and states, and of the gradients given."""
    draws = random.Random(seed)
    arguments = {
        "input_size": draws.randint(1, 4),
        "hidden_size": draws.randint(1, 4),
        "bias": draws.random() < 0.7,
        "device": draws.choice([None, "cpu"]),
        "dtype": torch.float64,
    }
    if ours_class.__name__ == "RNNCell":
        arguments["nonlinearity"] = draws.choice(["tanh", "relu"])
    ours, theirs = same_layers(ours_class, arguments, seed, draws)
    batch = draws.choice([(), (0,), (1,), (3,)])
    leaf = torch.randn(*batch, ours.input_size, dtype=torch.float64, requires_grad=True)
    leaves = []
    if draws.random() < 0.6:
        shape = (*batch, ours.hidden_size)
        leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in ours.state_names]
    expected = tensors(theirs(leaf, *([in_pairs(leaves)] if leaves else [])))
    chosen = [torch.randn_like(tensor) if draws.random() < 0.8 else None for tensor in expected]
    if all(gradient is None for gradient in chosen):
        chosen[0] = torch.randn_like(expected[0])
    pairs = [(y, dy) for y, dy in zip(expected, chosen, strict=True) if dy is not None]
    torch.autograd.backward([y for y, _ in pairs], [dy for _, dy in pairs])
    input_gradient = draws.random() < 0.8
    with record():
        found = ours(leaf.detach(), *([in_pairs([state.detach() for state in leaves])] if leaves else []))
        while draws.random() < 0.5 and len(chosen) > 1 and chosen[-1] is None:
            chosen.pop()
        dx, dfirst = ours.backward(*chosen, input_gradient=input_gradient)
    for mine, other in zip(tensors(found), expected, strict=True):
        same(mine, other)
    assert (dx is not None) == input_gradient
    if input_gradient:
        same(dx, leaf.grad)
    for mine, state in zip(tensors(dfirst), leaves, strict=False):
        same(mine, state.grad)
    same_parameter_gradients(ours, theirs)


def layer_results(layer, x, states=(), *, grads=None, **arguments):
    """Everything a forward and backward gives: outputs, dx, dstates, and the gradients of parameters."""
    layer.zero_grad()
    with record():
        y, last = layer(x, *([in_pairs(list(states))] if states else []), **arguments)
        given = [torch.cos(tensor) for tensor in (y, *tensors(last))] if grads is None else grads
        dx, dfirst = layer.backward(given[0], in_pairs(given[1:]))
    return [y, *tensors(last), dx, *tensors(dfirst), *(parameter.grad for parameter in layer.parameters())]


def random_states(layer, sequences):
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)[: len(layer.state_names)]
    return [torch.randn(count, sequences, size, dtype=torch.float64) for size in sizes]


def layer_arguments(ours_class, draws):
    """Named arguments of a constructor, each left out at times."""
    layers = draws.randint(1, 3)
    arguments = {
        "num_layers": layers,
        "bias": draws.random() < 0.6,
        "batch_first": draws.random() < 0.5,
        "dropout": draws.choice([0, 0.0, 0.4, 1]) if layers > 1 else 0.0,
        "bidirectional": draws.random() < 0.5,
        "device": draws.choice([None, "cpu"]),
    }
    hidden = draws.randint(1, 4)
    if ours_class.__name__ == "RNN":
        arguments["nonlinearity"] = draws.choice(["tanh", "relu"])
    if ours_class.__name__ == "LSTM":
        arguments["proj_size"] = draws.randint(0, hidden - 1)
    kept = {name: value for name, value in arguments.items() if draws.random() < 0.8}
    if kept.get("num_layers", 1) == 1:
        kept.pop("dropout", None)
    return {"input_size": draws.randint(1, 3), "hidden_size": hidden, "dtype": torch.float64, **kept}


def same_layers(ours_class, arguments, seed, draws):
    """Ours and PyTorch's, made from the same seed: their weights are the same, under the same names."""
    twin_class = getattr(torch.nn, ours_class.__name__)
    implementation = draws.choice(["vectorized", "vectorized", "loops"])
    torch.manual_seed(seed)
    ours = ours_class(**arguments, implementation=implementation)
    torch.manual_seed(seed)
    theirs = twin_class(**arguments)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    training = arguments.get("dropout", 0) == 0 and draws.random() < 0.5
    return ours.train(training), theirs.train(training)


def same_parameter_gradients(ours, theirs):
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if mine.grad is None or other.grad is None:
            assert all(p.grad is None or not p.grad.any() for p in (mine, other)), name
        else:
            same(mine.grad, other.grad)


def same(mine, other):
    torch.testing.assert_close(mine, other.detach(), rtol=1e-9, atol=1e-11)


def tensors(value):
    """A tensor, or a tuple of them, as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def in_pairs(values):
    """A list of one state as itself, of two as a pair."""
    return values[0] if len(values) == 1 else tuple(values)


def fields_of(packed):
    return {name: getattr(packed, name) for name in Steps._fields}
