import math

import pytest
import torch
from ds_core import Module, ShapeError
from ds_core.testing import check_layer
from ds_transformers import attention, attention_backward, tiled_attention, tiled_attention_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

PAIRS = {"vectorized": (attention, attention_backward), "tiled": (tiled_attention, tiled_attention_backward)}
both_implementations = pytest.mark.parametrize("implementation", list(PAIRS))


class AttentionOf(Module):
    """A pair as a layer without parameters, so that `check_layer` can look at it."""

    def __init__(self, implementation, **options):
        self.pair, self.options = PAIRS[implementation], options

    def forward(self, query, key, value):
        output, kept = self.pair[0](query, key, value, **self.options)
        self.save(query, key, value, output, kept)
        return output

    def backward(self, dout):
        saved = self.saved()
        return (None, None, None) if dout is None else self.pair[1](dout, *saved, **self.options)


class WeighedAttention(Module):
    """The vectorized pair with both of its results."""

    def __init__(self, dropout_mask=None):
        self.dropout_mask = dropout_mask

    def forward(self, query, key, value):
        output, probabilities = attention(query, key, value, causal=True, dropout_mask=self.dropout_mask)
        self.save(query, key, value, output, probabilities)
        return output, probabilities

    def backward(self, dout, dprobabilities=None):
        query, key, value, output, probabilities = self.saved()
        if dout is None:
            if dprobabilities is None:
                return None, None, None
            dout = torch.zeros_like(output)
        return attention_backward(
            dout,
            query,
            key,
            value,
            output,
            probabilities,
            causal=True,
            dropout_mask=self.dropout_mask,
            dprobabilities=dprobabilities,
        )


def random_heads(batch=2, heads=3, queries=4, keys=4, width=5, value_width=None, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(queries, width), (keys, width), (keys, value_width or width)]
    return [torch.randn(batch, heads, *shape, dtype=dtype, generator=generator) for shape in shapes]


def gradients_of(function, inputs, dout):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = function(*leaves)
    output.backward(dout)
    return output.detach(), [leaf.grad for leaf in leaves]


@both_implementations
def test_worked_example(implementation):
    ln3 = math.log(3)
    query = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
    key = torch.tensor([[[[0.0, ln3], [ln3, 0.0]]]], dtype=torch.float64)
    value = torch.tensor([[[[1.0, 2.0], [3.0, -1.0]]]], dtype=torch.float64)
    dout = torch.tensor([[[[1.0, 2.0], [-1.0, 4.0]]]], dtype=torch.float64)
    forward, backward = PAIRS[implementation]
    output, kept = forward(query, key, value, scale=1.0)
    expected = torch.tensor([[2.5, -0.25], [1.5, 1.25]], dtype=torch.float64)
    torch.testing.assert_close(output[0, 0], expected, rtol=1e-14, atol=1e-14)
    if implementation == "vectorized":
        expected = torch.tensor([[0.25, 0.75], [0.75, 0.25]], dtype=torch.float64)
        torch.testing.assert_close(kept[0, 0], expected, rtol=1e-14, atol=0)
    else:
        torch.testing.assert_close(kept.sum(-1), torch.full_like(kept[..., 0], 2.0), rtol=1e-14, atol=0)  # log2(1 + 3)
    dquery, dkey, dvalue = backward(dout, query, key, value, output, kept, scale=1.0)
    for found, rows in [
        (dvalue, [[-0.5, 3.5], [0.5, 2.5]]),
        (dquery, [[-0.75 * ln3, 0.75 * ln3], [-2.625 * ln3, 2.625 * ln3]]),
        (dkey, [[0.75, 2.625], [-0.75, -2.625]]),
    ]:
        torch.testing.assert_close(found[0, 0], torch.tensor(rows, dtype=torch.float64), rtol=1e-13, atol=1e-13)


@both_implementations
def test_index_by_index(implementation):
    query, key, value = random_heads(batch=1, heads=2, queries=3, keys=4, width=2, value_width=3)
    output, _ = PAIRS[implementation][0](query, key, value, causal=True)
    for h in range(2):
        for i in range(3):
            seen = range(i + 4 - 3 + 1)
            scores = [sum(query[0, h, i, d] * key[0, h, j, d] for d in range(2)) / math.sqrt(2) for j in seen]
            total = sum(math.exp(score) for score in scores)
            for c in range(3):
                expected = sum(math.exp(scores[j]) / total * value[0, h, j, c] for j in seen)
                assert output[0, h, i, c].item() == pytest.approx(expected.item(), rel=1e-12)


MASKS = {
    "none": lambda b, h, q, k: None,
    "shared": lambda b, h, q, k: torch.rand(q, k) < 0.6,
    "padding": lambda b, h, q, k: torch.arange(k) < torch.arange(1, b + 1).view(b, 1, 1, 1),
    "per head": lambda b, h, q, k: torch.rand(1, h, q, k) < 0.6,
    "queries": lambda b, h, q, k: torch.rand(b, 1, q, 1) < 0.6,
    "floating": lambda b, h, q, k: torch.randn(b, h, q, k, dtype=torch.float64),
    "floating, shared": lambda b, h, q, k: torch.randn(q, k, dtype=torch.float64),
    "floating with -inf": lambda b, h, q, k: torch.zeros(q, k).masked_fill(torch.rand(q, k) < 0.4, -math.inf).double(),
}


@both_implementations
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask", list(MASKS))
def test_like_torch_with_every_kind_of_mask(mask, scale, implementation):
    torch.manual_seed(1)
    inputs = random_heads(batch=3, queries=4, keys=6)
    dout = torch.randn(3, 3, 4, 5, dtype=torch.float64)
    given_mask = MASKS[mask](3, 3, 4, 6)
    expected = gradients_of(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=given_mask, scale=scale), inputs, dout
    )
    options = {"visible": given_mask, "scale": scale} | ({"rows": 3} if implementation == "tiled" else {})
    forward, backward = PAIRS[implementation]
    output, kept = forward(*inputs, **options)
    torch.testing.assert_close(output, expected[0], rtol=1e-12, atol=1e-12)
    for found, gradient in zip(backward(dout, *inputs, output, kept, **options), expected[1], strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)


@both_implementations
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("queries", "keys"), [(4, 4), (1, 1), (2, 5), (5, 2), (1, 4), (3, 1)], ids=lambda length: str(length)
)
def test_gradients(queries, keys, causal, implementation):
    options = {"causal": causal} | ({"rows": 2} if implementation == "tiled" else {})
    check_layer(AttentionOf(implementation, **options), *random_heads(queries=queries, keys=keys, value_width=3))


@both_implementations
def test_gradients_with_mask_and_dropout(implementation):
    torch.manual_seed(2)
    mask = torch.rand(3, 4, 4) < 0.7
    dropout_mask = torch.bernoulli(torch.full((2, 3, 4, 4), 0.6, dtype=torch.float64)) / 0.6
    options = {"visible": mask, "causal": True, "dropout_mask": dropout_mask} | (
        {"rows": 3} if implementation == "tiled" else {}
    )
    check_layer(AttentionOf(implementation, **options), *random_heads(), batch_dim=None)


@pytest.mark.parametrize("dropped", [False, True])
def test_gradient_of_the_probabilities(dropped):
    torch.manual_seed(3)
    dropout_mask = torch.bernoulli(torch.full((2, 3, 4, 4), 0.6, dtype=torch.float64)) / 0.6 if dropped else None
    check_layer(WeighedAttention(dropout_mask), *random_heads(), batch_dim=None)


@both_implementations
def test_dropout_multiplies_the_probabilities(implementation):
    inputs = random_heads()
    dropout_mask = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    dropout_mask[..., 1] = 4.0
    _, probabilities = attention(*inputs)
    output, _ = PAIRS[implementation][0](*inputs, dropout_mask=dropout_mask)
    torch.testing.assert_close(output, 4 * probabilities[..., 1:2] * inputs[2][:, :, 1:2])


@both_implementations
@pytest.mark.parametrize("keys", [6, 4, 3])
def test_causal_is_aligned_with_the_end_of_the_keys(keys, implementation):
    query, key, value = random_heads(queries=4, keys=keys)
    output, _ = PAIRS[implementation][0](query, key, value, causal=True)
    for i in range(4):
        seen = max(0, i + keys - 4 + 1)
        alone, _ = attention(query[:, :, i : i + 1], key[:, :, :seen], value[:, :, :seen])
        torch.testing.assert_close(output[:, :, i : i + 1], alone, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(0, 6), st.integers(0, 6), st.integers(1, 4)),
    masked=st.sampled_from(["none", "boolean", "floating"]),
    causal=st.booleans(),
    rows=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_the_implementations_agree(sizes, masked, causal, rows, seed):
    batch, heads, queries, keys, width = sizes
    inputs = random_heads(*sizes, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    dout = torch.randn(batch, heads, queries, width, dtype=torch.float64, generator=generator)
    mask = None
    if masked != "none":
        mask = torch.rand(batch, 1, queries, keys, generator=generator) < 0.7
        if masked == "floating":
            added = torch.randn(batch, 1, queries, keys, dtype=torch.float64, generator=generator)
            mask = added.masked_fill(~mask, -math.inf)
    options = {"visible": mask, "causal": causal}
    first, probabilities = attention(*inputs, **options)
    second, logs = tiled_attention(*inputs, **options, rows=rows)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    total = probabilities.sum(-1)
    assert (((total - 1).abs() < 1e-12) | (total == 0)).all()
    for one, other in zip(
        attention_backward(dout, *inputs, first, probabilities, **options),
        tiled_attention_backward(dout, *inputs, second, logs, **options, rows=rows),
        strict=True,
    ):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@both_implementations
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": (2, 3, 4, 6)}, r"query \(2, 3, 4, 6\), key \(2, 3, 4, 5\)"),
        ({"query": (2, 4, 5)}, r"query \(2, 4, 5\)"),
        ({"key": (1, 3, 4, 5)}, r"key \(1, 3, 4, 5\)"),
        ({"value": (2, 3, 7, 5)}, r"value \(2, 3, 7, 5\)"),
        (
            {"visible": torch.ones(5, 4, dtype=torch.bool)},
            r"visible \(5, 4\), expected a shape that broadcasts to \(2, 3, 4, 4\)",
        ),
        ({"visible": torch.ones(1, 2, 3, 4, 4, dtype=torch.bool)}, r"visible \(1, 2, 3, 4, 4\)"),
        ({"visible": torch.ones(4, 4, dtype=torch.int64)}, "visible of torch.int64, expected torch.bool or a floating"),
        ({"dropout_mask": torch.ones(4, 4)}, r"dropout_mask \(4, 4\), expected \(2, 3, 4, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, message, implementation):
    arguments = dict(zip(("query", "key", "value"), random_heads(), strict=True))
    arguments |= {name: torch.zeros(given) if isinstance(given, tuple) else given for name, given in change.items()}
    with pytest.raises(ShapeError, match=message):
        PAIRS[implementation][0](**arguments)
