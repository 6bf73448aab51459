"""Attention query by query: gradients, torch's own function, half precision, what it hides; the worked example."""

import math

import pytest
import torch
from ds_core import Module, ShapeError, primitives_only
from ds_core.testing import check_layer
from ds_transformers import attention, attention_backward, plain_attention, plain_attention_backward
from torch.nn.functional import scaled_dot_product_attention


class LoopAttention(Module):
    """The pair as a layer without parameters, so that `check_layer` can look at it."""

    def __init__(self, **options):
        self.options = options

    def forward(self, query, key, value):
        output, probabilities = plain_attention(query, key, value, **self.options)
        self.save(query, key, value, output, probabilities)
        return output, probabilities

    def backward(self, dout, dprobabilities=None):
        query, key, value, output, probabilities = self.saved()
        if dout is None and dprobabilities is None:
            return None, None, None
        dout = torch.zeros_like(output) if dout is None else dout
        return plain_attention_backward(
            dout, query, key, value, output, probabilities, **self.options, dprobabilities=dprobabilities
        )


def random_heads(batch=2, heads=2, queries=3, keys=3, width=4, value_width=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(queries, width), (keys, width), (keys, value_width)]
    return [torch.randn(batch, heads, *shape, dtype=dtype, generator=generator) for shape in shapes]


def test_worked_example():
    """The first query of attention.md's example, alone."""
    ln3 = math.log(3)  # 1.0986
    query, dout = torch.tensor([[1.0, 0.0]]).view(1, 1, 1, 2), torch.tensor([[1.0, 2.0]]).view(1, 1, 1, 2)
    key, value = torch.tensor([[[[0.0, ln3], [ln3, 0.0]]]]), torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]]])
    powers = torch.exp(torch.tensor([0.0, 1.0986]) - 1.0986)
    output, p = plain_attention(query, key, value, scale=1.0)
    dquery, dkey, dvalue = plain_attention_backward(dout, query, key, value, output, p, scale=1.0)
    for found, expected in [
        (powers, [0.3333, 1.0]),
        (p, [0.25, 0.75]),
        (output, [2.5, -0.25]),
        (dquery, [-0.8240, 0.8240]),
        (dvalue, [0.25, 0.5, 0.75, 1.5]),
        (dkey, [0.75, 0.0, -0.75, 0.0]),
    ]:
        torch.testing.assert_close(found.flatten(), torch.tensor(expected), rtol=0, atol=5e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys"), [(3, 3), (1, 1), (2, 4), (4, 2)])
def test_gradients(queries, keys, causal):
    check_layer(LoopAttention(causal=causal), *random_heads(queries=queries, keys=keys))


def test_gradients_with_mask_dropout_and_scale():
    torch.manual_seed(0)
    mask = torch.rand(3, 3) < 0.7
    mask[1] = False
    dropout_mask = torch.bernoulli(torch.full((2, 2, 3, 3), 0.6, dtype=torch.float64)) / 0.6
    layer = LoopAttention(visible=mask, causal=True, dropout_mask=dropout_mask, scale=0.7)
    check_layer(layer, *random_heads(), batch_dim=None)


@pytest.mark.parametrize("floating", [False, True])
def test_like_torch(floating):
    torch.manual_seed(0)
    inputs = random_heads(queries=3, keys=5)
    mask = torch.randn(2, 1, 3, 5, dtype=torch.float64) if floating else torch.rand(2, 1, 3, 5) < 0.6
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    expected = scaled_dot_product_attention(*leaves, attn_mask=mask, scale=0.4)
    dout = torch.randn_like(expected)
    expected.backward(dout)
    output, probabilities = plain_attention(*inputs, visible=mask, scale=0.4)
    torch.testing.assert_close(output, expected.detach(), rtol=1e-12, atol=1e-12)
    gradients = plain_attention_backward(dout, *inputs, output, probabilities, visible=mask, scale=0.4)
    torch.testing.assert_close(list(gradients), [leaf.grad for leaf in leaves], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
@pytest.mark.parametrize("floating", [False, True])
def test_a_query_that_sees_nothing(engine, floating):
    """Probabilities, output and gradients are 0, not NaN, in both engines."""
    mask = torch.tensor([[True, True, False], [False, False, False], [True, False, True]])
    if floating:
        mask = torch.zeros(3, 3, dtype=torch.float64).masked_fill(~mask, -math.inf)
    inputs = random_heads()
    dout = torch.ones(2, 2, 3, 2, dtype=torch.float64)
    leaves = [tensor.clone().requires_grad_(engine == "autograd") for tensor in inputs]
    output, probabilities = plain_attention(*leaves, visible=mask)
    if engine == "autograd":
        output.backward(dout)
        gradients = [leaf.grad for leaf in leaves]
    else:
        gradients = plain_attention_backward(dout, *inputs, output, probabilities, visible=mask)
    assert (output[:, :, 1] == 0).all()
    assert (probabilities[:, :, 1] == 0).all()
    assert (gradients[0][:, :, 1] == 0).all()
    assert (gradients[0][:, :, [0, 2]] != 0).all()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys"), [(0, 2, 3, 3), (2, 0, 3, 3), (2, 2, 0, 3), (2, 2, 3, 0), (1, 1, 1, 1)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_and_one(batch, heads, queries, keys, causal):
    inputs = random_heads(batch, heads, queries, keys)
    output, probabilities = plain_attention(*inputs, causal=causal)
    expected = attention(*inputs, causal=causal)
    torch.testing.assert_close((output, probabilities), expected, rtol=1e-12, atol=1e-12)
    gradients = plain_attention_backward(output, *inputs, output, probabilities, causal=causal)
    wanted = attention_backward(output, *inputs, *expected, causal=causal)
    torch.testing.assert_close(gradients, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
def test_huge_scores_in_float32(engine):
    """Scores of +-1e4 pick one key; the third query weighs all keys by 1/3, so that dS = (value - 2) / 3."""
    query, key, value = (
        torch.tensor(numbers).view(1, 1, 3, 1) for numbers in ([1e4, -1e4, 0.0], [1.0, -1.0, 0.5], [1.0, 2.0, 3.0])
    )
    leaves = [tensor.clone().requires_grad_(engine == "autograd") for tensor in (query, key, value)]
    output, probabilities = plain_attention(*leaves)
    if engine == "autograd":
        output.sum().backward()
        gradients = [leaf.grad for leaf in leaves]
    else:
        gradients = plain_attention_backward(torch.ones_like(output), query, key, value, output, probabilities)
    torch.testing.assert_close(output.flatten(), torch.tensor([1.0, 2.0, 2.0]))
    torch.testing.assert_close(gradients[0].flatten(), torch.tensor([0.0, 0.0, (-1.0 + 0.5) / 3]))
    torch.testing.assert_close(gradients[1].flatten(), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients[2].flatten(), torch.tensor([4 / 3, 4 / 3, 1 / 3]))


def test_the_most_negative_number_hides_less_than_minus_infinity():
    """A row hidden by it weighs every key alike, as in torch."""
    inputs = random_heads(dtype=torch.float32)
    mask = torch.zeros(3, 3)
    mask[1] = torch.finfo(torch.float32).min
    mask[2, 0] = -math.inf
    output, _ = plain_attention(*inputs, visible=mask)
    torch.testing.assert_close(output, scaled_dot_product_attention(*inputs, attn_mask=mask))


@pytest.mark.parametrize("dropped", [False, True])
def test_bfloat16_rounds_results_and_not_exponents(dropped):
    """The error is that of rounding probabilities and results to 8 bits: products in bfloat16 double it."""
    query, key, value = random_heads(queries=60, keys=60, width=16, value_width=16, dtype=torch.float32)
    torch.manual_seed(0)
    dropout_mask = (torch.rand(2, 2, 60, 60) < 0.5) * 2.0 if dropped else None
    low = [tensor.bfloat16() for tensor in (4 * query, key, value, torch.randn(2, 2, 60, 16))]
    results = []
    for *inputs, dout in (low, [tensor.float() for tensor in low]):
        options = {"causal": True, "dropout_mask": None if dropout_mask is None else dropout_mask.to(dout.dtype)}
        output, probabilities = plain_attention(*inputs, **options)
        assert probabilities.dtype == dout.dtype
        results.append([output, *plain_attention_backward(dout, *inputs, output, probabilities, **options)])
    for found, wanted in zip(*results, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.float() - wanted).norm() / wanted.norm() < 0.0045


def test_autocast_changes_nothing():
    inputs = random_heads(dtype=torch.float32)
    expected = plain_attention(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = plain_attention(*inputs)
        gradients = plain_attention_backward(expected[0], *inputs, *expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    wanted = plain_attention_backward(expected[0], *inputs, *expected)
    torch.testing.assert_close(gradients, wanted, rtol=0, atol=0)


def test_only_primitives_run():
    inputs = random_heads()
    with torch.no_grad(), primitives_only() as operations:
        results = plain_attention(*inputs, causal=True)
        plain_attention_backward(results[0], *inputs, *results, causal=True)
    assert operations["mv"] == 2 * 2 * 3 * 4  # per query: scores and output, then dp and dq


def test_shapes_that_do_not_fit_are_named():
    query, key, value = random_heads()
    with pytest.raises(ShapeError, match=r"query \(2, 2, 3, 3\), key \(2, 2, 3, 4\)"):
        plain_attention(query[..., :3], key, value)
    with pytest.raises(ShapeError, match=r"visible \(5, 3\), expected a shape that broadcasts to \(2, 2, 3, 3\)"):
        plain_attention(query, key, value, visible=torch.ones(5, 3, dtype=torch.bool))
