"""Softmax over a memory and the mean with its weights."""

import pytest
import torch
from ds_core import plain
from ds_rnn import plain_weighted_mean, plain_weighted_mean_backward, weighted_mean, weighted_mean_backward
from hypothesis import given, settings
from hypothesis import strategies as st

BOTH = pytest.mark.parametrize(
    ("forward", "backward"),
    [(weighted_mean, weighted_mean_backward), (plain_weighted_mean, plain_weighted_mean_backward)],
    ids=["fast", "plain"],
)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def of_torch(scores, memory, padding):
    """By torch.softmax; sequences of padding alone are not for it."""
    if padding is not None:
        scores = scores.masked_fill(padding[:, None], float("-inf"))
    p = scores.softmax(2)
    return p @ memory, p


@BOTH
@pytest.mark.parametrize("padded", [False, True])
def test_against_torch(forward, backward, padded):
    scores, memory, dcontext = draw(2, 3, 4), draw(2, 4, 5), draw(2, 3, 5)
    padding = torch.tensor([[False, True, True, False], [False] * 4]) if padded else None
    context, p = forward(scores, memory, padding)
    leaves = [tensor.clone().requires_grad_() for tensor in (scores, memory)]
    expected = of_torch(*leaves, padding)
    for found, tensor in zip((context, p), expected, strict=True):
        torch.testing.assert_close(found, tensor.detach(), rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(expected[0], leaves, dcontext)
    for found, tensor in zip(backward(dcontext, p, memory), gradients, strict=True):
        torch.testing.assert_close(found, tensor, rtol=1e-12, atol=1e-12)


@BOTH
def test_nothing_but_padding_reads_zeros(forward, backward):
    """And hands on zeros; the other sequence sees all that is its own."""
    scores, memory = draw(2, 3, 4), draw(2, 4, 5)
    padding = torch.tensor([[True] * 4, [False] * 4])
    context, p = forward(scores, memory, padding)
    dscores, dmemory = backward(draw(2, 3, 5), p, memory)
    for tensor in (context, p, dscores, dmemory):
        assert torch.equal(tensor[0], torch.zeros_like(tensor[0]))
        assert bool((tensor[1] != 0).all())


@BOTH
def test_autograd_agrees_that_padding_has_no_gradient(forward, backward):
    scores, memory = draw(2, 3, 4).requires_grad_(), draw(2, 4, 5).requires_grad_()
    padding = torch.tensor([[True] * 4, [False, False, True, True]])
    context, p = forward(scores, memory, padding)
    dcontext = draw(2, 3, 5)
    expected = torch.autograd.grad(context, [scores, memory], dcontext)
    for found, tensor in zip(backward(dcontext, p.detach(), memory.detach()), expected, strict=True):
        torch.testing.assert_close(found, tensor, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**20))
@settings(deadline=None, max_examples=30)
def test_any_shape(batch, queries, positions, size, seed):
    """The weights are at least 0 and sum to 1; the sum of each row of dscores is 0."""
    generator = torch.Generator().manual_seed(seed)
    scores = 50 * torch.randn(batch, queries, positions, generator=generator, dtype=torch.float64)
    memory = torch.randn(batch, positions, size, generator=generator, dtype=torch.float64)
    padding = torch.rand(batch, positions, generator=generator) < 0.4
    padding[:, 0] = False
    context, p = weighted_mean(scores, memory, padding)
    assert bool((p >= 0).all())
    torch.testing.assert_close(p.sum(2), torch.ones(batch, queries, dtype=torch.float64))
    assert bool((context.abs() <= memory.abs().amax(1, keepdim=True) + 1e-12).all())
    dscores, _ = weighted_mean_backward(torch.ones_like(context), p, memory)
    torch.testing.assert_close(dscores.sum(2), torch.zeros(batch, queries, dtype=torch.float64), rtol=0, atol=1e-9)


def test_bfloat16():
    scores, memory = torch.randn(2, 3, 4, dtype=torch.bfloat16), torch.randn(2, 4, 5, dtype=torch.bfloat16)
    padding = torch.tensor([[True] * 4, [False, False, True, True]])
    context, p = weighted_mean(scores, memory, padding)
    expected, _ = weighted_mean(scores.double(), memory.double(), padding)
    assert context.dtype == p.dtype == torch.bfloat16
    torch.testing.assert_close(context.double(), expected, rtol=0.02, atol=0.04)


def test_plain_runs_the_loops():
    scores, memory = draw(2, 3, 4), draw(2, 4, 5)
    with plain():
        found = weighted_mean(scores, memory, None)
    assert all(torch.equal(a, b) for a, b in zip(found, plain_weighted_mean(scores, memory, None), strict=True))


@BOTH
def test_worked_example(forward, backward):
    scores = torch.tensor([[[0.0, 3.0, 5.0]]], dtype=torch.float64)
    scores[..., 1] = scores[..., 1].log()
    memory = torch.tensor([[[2.0, 0.0], [0.0, 4.0], [9.0, 9.0]]], dtype=torch.float64)
    context, p = forward(scores, memory, torch.tensor([[False, False, True]]))
    dscores, dmemory = backward(torch.tensor([[[1.0, -0.5]]], dtype=torch.float64), p, memory)

    def same(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))

    same(p, [[[0.25, 0.75, 0.0]]])
    same(context, [[[0.5, 3.0]]])
    assert (1 * 9 - 0.5 * 9, 0.25 * 2 + 0.75 * -2) == (4.5, -1.0)
    same(dscores, [[[0.75, -0.75, 0.0]]])
    same(dmemory, [[[0.25, -0.125], [0.75, -0.375], [0.0, 0.0]]])
