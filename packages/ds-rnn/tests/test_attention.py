"""Bahdanau's and Luong's attention: keys made once, queries that read a weighted mean of the memory."""

import pytest
import torch
from ds_core import Module, ShapeError, TraceError, record
from ds_core.interop import as_torch
from ds_core.testing import check_layer, one_graph
from ds_rnn import AdditiveAttention, MultiplicativeAttention
from torch import nn

KINDS = {"additive": lambda **made: AdditiveAttention(3, 4, 5, **made)}
KINDS["multiplicative"] = lambda **made: MultiplicativeAttention(3, 4, **made)
BOTH = pytest.mark.parametrize("kind", list(KINDS))


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class Looked(Module):
    """Keys of the memory, and one look at it: what a decoder does with an attention."""

    def __init__(self, attention):
        self.attention = attention

    def forward(self, query, memory, padding=None):
        keys = self.attention.keys.forward(memory)
        return self.attention.forward(query, keys, memory, padding)

    def backward(self, dcontext):
        dquery, dkeys, dmemory = self.attention.backward(dcontext)
        through_keys = self.attention.keys.backward(dkeys)
        if dmemory is None:
            return dquery, through_keys
        return dquery, dmemory + through_keys


class OfTorch(nn.Module):
    """The same of torch.nn's parts, with the same names."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        if kind == "additive":
            self.queries, self.keys = nn.Linear(3, 5, bias=False), nn.Linear(4, 5)
            self.weight = nn.Parameter(torch.empty(5))
        else:
            self.keys = nn.Linear(4, 3, bias=False)

    def forward(self, query, memory, padding):
        keys = self.keys(memory)
        if self.kind == "additive":
            scores = torch.tanh(self.queries(query).unsqueeze(2) + keys.unsqueeze(1)) @ self.weight
        else:
            scores = query @ keys.transpose(1, 2)
        return scores.masked_fill(padding[:, None], float("-inf")).softmax(2) @ memory


@BOTH
@pytest.mark.parametrize("queries", [1, 3])
def test_against_torch(kind, queries):
    ours, theirs = Looked(KINDS[kind](dtype=torch.float64)), OfTorch(kind).double()
    theirs.load_state_dict(ours.attention.state_dict())
    query, memory, dcontext = draw(2, queries, 3), draw(2, 4, 4), draw(2, queries, 4)
    padding = torch.tensor([[False, False, True, True], [False] * 4])
    with record():
        found = [ours(query, memory, padding), *ours.backward(dcontext)]
    found += [parameter.grad for parameter in ours.parameters()]
    leaves = [tensor.clone().requires_grad_() for tensor in (query, memory)]
    context = theirs(*leaves, padding)
    context.backward(dcontext)
    named = dict(theirs.named_parameters())
    expected = [context, *(leaf.grad for leaf in leaves)]
    expected += [named[name].grad for name, _ in ours.attention.named_parameters()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-12, atol=1e-12)


@BOTH
@pytest.mark.parametrize("padded", [False, True])
def test_layer(kind, padded):
    """The attention alone: contexts, and the gradients of query, keys and memory."""
    attention = KINDS[kind]()
    attention.keys.requires_grad_(False)  # the caller runs them
    keys = draw(2, 4, attention.keys.weight.shape[0])
    padding = [torch.tensor([[False, True, False, True], [True] * 4])] if padded else []
    check_layer(attention, draw(2, 3, 3), keys, draw(2, 4, 4), *padding, skip=["input_gradient"], samples=6)


@BOTH
def test_with_its_keys(kind):
    padding = torch.tensor([[False, False, True, True], [True] * 4])
    looked = Looked(KINDS[kind]())
    check_layer(looked, draw(2, 3, 3), draw(2, 4, 4), padding, skip=["input_gradient"], samples=6)


@BOTH
def test_nothing_but_padding_reads_zeros(kind):
    looked, query, memory = Looked(KINDS[kind](dtype=torch.float64)), draw(2, 3, 3), draw(2, 4, 4)
    padding = torch.tensor([[True] * 4, [False] * 4])
    with record():
        context = looked(query, memory, padding)
        dquery, dmemory = looked.backward(draw(2, 3, 4))
    for tensor in (context, dquery, dmemory):
        assert torch.equal(tensor[0], torch.zeros_like(tensor[0]))
        assert bool((tensor[1] != 0).any())


@BOTH
def test_what_stands_in_the_padding_does_not_matter(kind):
    looked, query, memory = Looked(KINDS[kind](dtype=torch.float64)), draw(2, 3, 3), draw(2, 4, 4)
    padding = torch.tensor([[False, False, True, True], [False, True, True, True]])
    changed = torch.where(padding[..., None], 1e6, memory)
    torch.testing.assert_close(looked(query, changed, padding), looked(query, memory, padding), rtol=0, atol=0)


@BOTH
def test_query_by_query(kind):
    """One look with three queries is three looks with one: Luong's decoder, and Bahdanau's."""
    attention, query, memory = KINDS[kind](dtype=torch.float64), draw(2, 3, 3), draw(2, 4, 4)
    keys = attention.keys.forward(memory)
    apart = torch.cat([attention.forward(query[:, t : t + 1], keys, memory) for t in range(3)], 1)
    torch.testing.assert_close(apart, attention.forward(query, keys, memory), rtol=1e-12, atol=1e-12)


def test_worked_example():
    attention = MultiplicativeAttention(2, 2, dtype=torch.float64)
    attention.keys.weight.data = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    query = torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)
    memory = torch.eye(2, dtype=torch.float64)[None]
    with record():
        keys = attention.keys.forward(memory)
        context = attention.forward(query, keys, memory)
        dquery, dkeys, dmemory = attention.backward(torch.tensor([[[1.0, -1.0]]], dtype=torch.float64))
        through_keys = attention.keys.backward(dkeys)

    def same(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))

    same(keys, [[[1.0, 0.5], [0.0, 1.0]]])
    same(query @ keys.transpose(1, 2), [[[2.0, 2.0]]])
    same(context, [[[0.5, 0.5]]])
    same(dquery, [[[0.5, -0.25]]])
    same(dkeys, [[[0.5, 1.0], [-0.5, -1.0]]])
    same(dmemory, [[[0.5, -0.5], [0.5, -0.5]]])
    same(through_keys, [[[1.0, 1.0], [-1.0, -1.0]]])
    same(dmemory + through_keys, [[[1.5, 0.5], [-0.5, -1.5]]])
    same(attention.keys.weight.grad, [[0.5, -0.5], [1.0, -1.0]])


@BOTH
@pytest.mark.parametrize(
    ("query", "keys", "memory", "padding"),
    [
        ((2, 3), None, (2, 4, 4), None),
        ((2, 3, 2), None, (2, 4, 4), None),
        ((1, 3, 3), None, (2, 4, 4), None),
        ((2, 3, 3), (2, 5), (2, 4, 4), None),
        ((2, 3, 3), (2, 5), (2, 4, 4), (2, 5)),
        ((2, 3, 3), None, (2, 4, 5), None),
        ((2, 3, 3), None, (4, 4), None),
    ],
)
def test_impossible_shapes(kind, query, keys, memory, padding):
    attention = KINDS[kind]()
    width = attention.keys.weight.shape[0]
    keys = torch.zeros(*(keys or (2, 4)), width)
    padding = None if padding is None else torch.zeros(padding, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"Attention\(3, 4\): given query .*, expected query \(B, T, 3\), keys"):
        attention(torch.zeros(query), keys, torch.zeros(memory), padding)


@BOTH
def test_same_seed_same_weights(kind):
    one, other = (KINDS[kind](generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@BOTH
def test_backward_twice(kind):
    looked, query, memory = Looked(KINDS[kind]()), torch.zeros(2, 3, 3), torch.zeros(2, 4, 4)
    with record():
        context = looked(query, memory)
        looked.backward(context)
        with pytest.raises(TraceError, match="Attention"):
            looked.backward(context)


@BOTH
def test_memory_kept(kind):
    """The weights p, and no copy of the memory, whose bytes are those that the caller holds."""
    attention = KINDS[kind]()
    query, memory = torch.randn(2, 3, 3), torch.randn(2, 4, 4)
    with record() as trace:
        keys = attention.keys.forward(memory)
        attention.forward(query, keys, memory)
        found = sum(line.bytes for line in trace.kept())
        trace.take()
    p, of_memory, of_query = 2 * 3 * 4, 2 * 4 * 4, 2 * 3 * 3
    # u of every pair (B T S A), or the keys (B S Q), whose products the scores are
    inside = 2 * 3 * 4 * 5 if kind == "additive" else 2 * 4 * 3
    assert found == 4 * (p + of_memory + of_query + inside)


@BOTH
@pytest.mark.parametrize("queries", [1, 3])
def test_as_torch(kind, queries):
    """In a model of torch.nn, with autograd around it, twice before one backward."""
    looked = Looked(KINDS[kind](dtype=torch.float64))
    module, other = as_torch(looked), OfTorch(kind).double()
    other.load_state_dict(looked.attention.state_dict())
    query, memory = draw(2, queries, 3).requires_grad_(), draw(2, 4, 4).requires_grad_()
    padding = torch.tensor([[False, False, True, True], [False] * 4])
    found = []
    for one in (module, other):
        loss = torch.sin(one(query, memory, padding)).sum() + one(2 * query, memory, padding).sum()
        found.append(torch.autograd.grad(loss, [query, memory]))
    for given, expected in zip(*found, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-12)


@BOTH
def test_compiles_whole(kind):
    looked, query, memory = Looked(KINDS[kind]()), torch.randn(2, 3, 3), torch.randn(2, 4, 4)
    padding = torch.tensor([[False, False, True, True], [True] * 4])

    def step(query, memory, padding):
        looked.zero_grad()
        with record():
            context = looked(query, memory, padding)
            return context, *looked.backward(context), looked.attention.keys.weight.grad

    compiled = one_graph(step)
    torch.testing.assert_close(compiled(query, memory, padding), step(query, memory, padding))


@BOTH
def test_bfloat16(kind):
    looked, wide = Looked(KINDS[kind](dtype=torch.bfloat16)), Looked(KINDS[kind](dtype=torch.float64))
    wide.load_state_dict(looked.state_dict())
    query, memory = torch.randn(2, 3, 3).bfloat16(), torch.randn(2, 4, 4).bfloat16()
    with record():
        context = looked(query, memory)
        gradients = looked.backward(context)
    assert {tensor.dtype for tensor in (context, *gradients)} == {torch.bfloat16}
    expected = wide(query.double(), memory.double()).detach()
    torch.testing.assert_close(context.double(), expected, rtol=0, atol=0.2)
