"""Heads as columns of a projection, and the gradient of heads of keys that several heads of queries share."""

import math

import pytest
import torch
from ds_transformers.attentions.heads import merge_heads, repeat_heads, repeat_heads_backward, split_heads


def test_worked_example():
    """Two heads of queries share one of keys and values; attention by hand, for the repeated heads."""

    def heads(*matrices):
        return torch.tensor([matrices], dtype=torch.float64)

    ln3 = math.log(3)
    query = heads([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
    key, value = heads([[0.0, ln3], [ln3, 0.0]]), heads([[1.0, 2.0], [3.0, -1.0]])
    dout = heads([[1.0, 2.0], [-1.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    p = torch.softmax(query @ repeat_heads(key, 2).mT, -1)
    output, dp = p @ repeat_heads(value, 2), dout @ repeat_heads(value, 2).mT
    delta = (p * dp).sum(-1, keepdim=True)
    dscores = p * (dp - delta)
    dkeys, dvalues = dscores.mT @ query, p.mT @ dout
    for found, expected in [
        (p, heads([[0.25, 0.75], [0.75, 0.25]], [[0.75, 0.25], [0.25, 0.75]])),
        (output, heads([[2.5, -0.25], [1.5, 1.25]], [[1.5, 1.25], [2.5, -0.25]])),
        (delta[:, 1], heads([[1.5], [-0.25]])[:, 0]),
        (dscores, heads([[0.75, -0.75], [2.625, -2.625]], [[-0.375, 0.375], [0.5625, -0.5625]])),
        (dkeys, heads([[0.75, 2.625], [-0.75, -2.625]], [[0.5625, -0.375], [-0.5625, 0.375]])),
        (dvalues, heads([[-0.5, 3.5], [0.5, 2.5]], [[0.75, 0.25], [0.25, 0.75]])),
        (repeat_heads_backward(dkeys, 2), heads([[1.3125, 2.25], [-1.3125, -2.25]])),
        (repeat_heads_backward(dvalues, 2), heads([[0.25, 3.75], [0.75, 3.25]])),
    ]:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_repeating_stands_side_by_side_and_its_gradient_is_the_sum():
    x = torch.arange(2.0).view(1, 2, 1, 1)
    assert repeat_heads(x, 3).flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert repeat_heads_backward(torch.arange(6.0).view(1, 6, 1, 1), 3).flatten().tolist() == [0 + 1 + 2, 3 + 4 + 5]
    assert repeat_heads(x, 1) is x
    assert repeat_heads_backward(x, 1) is x


@pytest.mark.parametrize("batch_first", [True, False])
def test_heads_are_columns(batch_first):
    x = torch.randn(2, 3, 8)
    heads = split_heads(x, 4, batch_first)
    assert heads.is_contiguous()
    expected = x if batch_first else x.transpose(0, 1)
    for h in range(2):
        assert torch.equal(heads[:, h], expected[:, :, 4 * h : 4 * (h + 1)])
    assert torch.equal(merge_heads(heads, batch_first), x)
