"""Every implementation with heads that share keys and values, and what the layers of attention have in common."""

import math

import pytest
import torch
from attention_twins import causal_mask
from ds_core import Module, Recompute, primitives_only, record
from ds_core.testing import check_layer
from ds_transformers.attentions.heads import repeat_heads
from ds_transformers.attentions.implementations import (
    IMPLEMENTATIONS,
    attend,
    attend_backward,
    draw_attention_dropout_mask,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

every_implementation = pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))


class Attend(Module):
    """`attend` and its backward as a layer without parameters, so that `check_layer` can look at it."""

    def __init__(self, implementation, **options):
        self.implementation, self.options = implementation, options

    def forward(self, query, key, value):
        output, kept = attend(self.implementation, query, key, value, **self.options)
        self.save(query, key, value, output, kept)
        return output

    def backward(self, dout):
        saved = self.saved()
        return (
            (None, None, None) if dout is None else attend_backward(self.implementation, dout, *saved, **self.options)
        )


def random_heads(heads=4, groups=2, queries=3, keys=5, width=2, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, queries, width), (batch, groups, keys, width), (batch, groups, keys, width)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@every_implementation
def test_worked_example(implementation):
    """Two heads of queries, the second with those of the first in the other order, and one of keys and values."""

    def heads(*matrices):
        return torch.tensor([matrices], dtype=torch.float64)

    ln3 = math.log(3)
    query = heads([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]])
    key, value = heads([[0.0, ln3], [ln3, 0.0]]), heads([[1.0, 2.0], [3.0, -1.0]])
    dout = heads([[1.0, 2.0], [-1.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    output, kept = attend(implementation, query, key, value, scale=1.0)
    dquery, dkey, dvalue = attend_backward(implementation, dout, query, key, value, output, kept, scale=1.0)
    dscores = heads([[0.75, -0.75], [2.625, -2.625]], [[-0.375, 0.375], [0.5625, -0.5625]])
    for found, expected in [
        (output, heads([[2.5, -0.25], [1.5, 1.25]], [[1.5, 1.25], [2.5, -0.25]])),
        (dscores.mT @ query, heads([[0.75, 2.625], [-0.75, -2.625]], [[0.5625, -0.375], [-0.5625, 0.375]])),
        (dkey, heads([[1.3125, 2.25], [-1.3125, -2.25]])),
        (dvalue, heads([[-0.5, 3.5], [0.5, 2.5]]) + heads([[0.75, 0.25], [0.25, 0.75]])),
        (dvalue, heads([[0.25, 3.75], [0.75, 3.25]])),
        (dquery, dscores @ key),
    ]:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


MASKS = {
    "none": None,
    "padding": torch.tensor([[True, True, True, False, False], [True] * 5]).view(2, 1, 1, 5),
    "boolean": ~causal_mask(3, 5),
    "floating, each head": torch.randn(1, 4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    "floating, each example": torch.randn(2, 1, 1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
}


@every_implementation
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mask", list(MASKS))
def test_like_torchs_grouped_kernel(mask, groups, implementation):
    inputs = random_heads(groups=groups)
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = scaled_dot_product_attention(*leaves, attn_mask=MASKS[mask], enable_gqa=True)
    dout = torch.randn_like(expected)
    expected.backward(dout)
    output, kept = attend(implementation, *inputs, visible=MASKS[mask])
    torch.testing.assert_close(output, expected.detach(), rtol=1e-12, atol=1e-12)
    found = attend_backward(implementation, dout, *inputs, output, kept, visible=MASKS[mask])
    torch.testing.assert_close(list(found), [leaf.grad for leaf in leaves], rtol=1e-12, atol=1e-12)


@every_implementation
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries", [1, 3])
def test_gradients(queries, causal, groups, implementation):
    check_layer(Attend(implementation, causal=causal, scale=0.4), *random_heads(groups=groups, queries=queries))


@every_implementation
def test_gradients_under_dropout(implementation):
    dropout_mask = draw_attention_dropout_mask(random_heads()[0], 5, 0.4)
    check_layer(Attend(implementation, dropout_mask=dropout_mask), *random_heads(), batch_dim=None)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    implementation=st.sampled_from(list(IMPLEMENTATIONS)),
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    queries=st.integers(0, 3),
    keys=st.integers(0, 3),
    causal=st.booleans(),
    masked=st.sampled_from(["none", "padding", "each query"]),
    seed=st.integers(0, 99),
)
def test_one_product_for_shared_heads_equals_repeated_keys(
    implementation, groups, shared, queries, keys, causal, masked, seed
):
    query, key, value = random_heads(groups * shared, groups, queries, keys, seed=seed)
    shapes = {"none": None, "padding": (2, 1, 1, keys), "each query": (2, 1, queries, keys)}
    generator = torch.Generator().manual_seed(seed)
    mask = None if masked == "none" else torch.rand(shapes[masked], generator=generator) < 0.6
    found = attend(implementation, query, key, value, visible=mask, causal=causal)
    expected = IMPLEMENTATIONS[implementation][0](
        query, repeat_heads(key, shared), repeat_heads(value, shared), visible=mask, causal=causal
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("queries", "options", "copies"),
    [
        (1, {"causal": True}, 0),
        (3, {}, 0),
        (3, {"visible": MASKS["padding"]}, 0),
        (3, {"causal": True}, 2),
        (3, {"visible": MASKS["boolean"][None, None]}, 2),
        (3, {"visible": MASKS["floating, each head"]}, 2),
        (1, {"dropout_mask": torch.ones(2, 4, 1, 5, dtype=torch.float64)}, 2),
    ],
)
def test_keys_are_copied_only_where_the_heads_see_different_ones(queries, options, copies):
    with primitives_only() as operations:
        attend("vectorized", *random_heads(queries=queries), **options)
    assert operations["clone"] + operations["copy"] + operations["repeat"] == copies


def test_the_mask_of_dropout():
    query = torch.zeros(3, 2, 40, 5, dtype=torch.float64)
    assert draw_attention_dropout_mask(query, 50, 0.0) is None
    assert torch.equal(draw_attention_dropout_mask(query, 50, 1.0), torch.zeros(3, 2, 40, 50, dtype=torch.float64))
    torch.manual_seed(0)
    dropout_mask = draw_attention_dropout_mask(query, 50, 0.2)
    assert dropout_mask.shape == (3, 2, 40, 50)
    assert dropout_mask.dtype == torch.float64
    assert set(dropout_mask.unique().tolist()) == {0.0, 1.25}
    assert abs((dropout_mask == 0).double().mean() - 0.2) < 0.02


def test_recomputing_draws_the_same_mask():
    class Dropped(Attend):
        def forward(self, query, key, value):
            self.options["dropout_mask"] = draw_attention_dropout_mask(query, key.shape[2], 0.5)
            return super().forward(query, key, value)

    gradients = []
    for wrap in (lambda layer: layer, Recompute):
        torch.manual_seed(0)
        layer = wrap(Dropped("vectorized"))
        with record():
            y = layer.forward(*random_heads())
            torch.rand(7)
            gradients.append(layer.backward(torch.ones_like(y)))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
