"""Bahdanau's scores: a small network over all pairs of query and key."""

import pytest
import torch
from ds_core import plain
from ds_rnn import additive_scores, additive_scores_backward, plain_additive_scores, plain_additive_scores_backward

BOTH = pytest.mark.parametrize(
    ("forward", "backward"),
    [(additive_scores, additive_scores_backward), (plain_additive_scores, plain_additive_scores_backward)],
    ids=["fast", "plain"],
)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@BOTH
@pytest.mark.parametrize(
    ("batch", "queries", "positions", "size"), [(2, 3, 4, 5), (1, 1, 1, 1), (0, 2, 3, 4), (2, 1, 3, 2)]
)
def test_against_torch(forward, backward, batch, queries, positions, size):
    given = draw(batch, queries, size), draw(batch, positions, size), draw(size)
    leaves = [tensor.clone().requires_grad_() for tensor in given]
    u = torch.tanh(leaves[0][:, :, None] + leaves[1][:, None])
    expected = u @ leaves[2]
    scores, kept = forward(*given)
    torch.testing.assert_close(scores, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kept, u.detach(), rtol=1e-12, atol=1e-12)
    dscores = draw(batch, queries, positions)
    gradients = torch.autograd.grad(expected, leaves, dscores)
    for found, tensor in zip(backward(dscores, kept, given[2]), gradients, strict=True):
        torch.testing.assert_close(found, tensor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_gradients_left_out(left_out):
    needs = tuple(index != left_out for index in range(3))
    dscores, u, weight = draw(2, 3, 4), draw(2, 3, 4, 5).tanh(), draw(5)
    for index, (found, expected) in enumerate(
        zip(
            additive_scores_backward(dscores, u, weight, needs),
            additive_scores_backward(dscores, u, weight),
            strict=True,
        )
    ):
        assert found is None if index == left_out else torch.equal(found, expected)


def test_bfloat16():
    query, keys, weight = (torch.randn(*shape, dtype=torch.bfloat16) for shape in ((2, 3, 5), (2, 4, 5), (5,)))
    scores, u = additive_scores(query, keys, weight)
    assert scores.dtype == u.dtype == torch.bfloat16
    expected, _ = additive_scores(query.double(), keys.double(), weight.double())
    torch.testing.assert_close(scores.double(), expected, rtol=0.05, atol=0.1)


def test_plain_runs_the_loops():
    given = draw(2, 3, 5), draw(2, 4, 5), draw(5)
    with plain():
        found = additive_scores(*given)
    assert all(torch.equal(a, b) for a, b in zip(found, plain_additive_scores(*given), strict=True))


@BOTH
def test_worked_example(forward, backward):
    query = torch.tensor([[[0.5, -0.5]]], dtype=torch.float64)
    keys = torch.tensor([[[0.0, 0.5], [0.5, -1.0]]], dtype=torch.float64)
    weight = torch.tensor([2.0, 1.0], dtype=torch.float64)
    scores, u = forward(query, keys, weight)
    dquery, dkeys, dweight = backward(torch.tensor([[[1.0, -1.0]]], dtype=torch.float64), u, weight)

    def same(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=6e-5)

    same(query[:, :, None] + keys[:, None], [[[[0.5, 0.0], [1.0, -1.5]]]])
    same(u, [[[[0.4621, 0.0], [0.7616, -0.9051]]]])
    same(scores, [[[0.9242, 0.6180]]])
    same(dkeys, [[[1.5729, 1.0], [-0.8399, -0.1807]]])
    same(dquery, [[[0.7329, 0.8193]]])
    same(dweight, [-0.2995, 0.9051])
