"""Attention where numbers are extreme or imprecise: nothing to see, huge scores and masks, bfloat16, autocast."""

import math

import pytest
import torch
from ds_core import Module, record
from ds_core.interop import as_torch
from ds_transformers import (
    MultiheadAttention,
    SelfAttention,
    attention,
    attention_backward,
    tiled_attention,
    tiled_attention_backward,
)
from torch.nn.functional import scaled_dot_product_attention

PAIRS = {"vectorized": (attention, attention_backward), "tiled": (tiled_attention, tiled_attention_backward)}
both_implementations = pytest.mark.parametrize("implementation", list(PAIRS))


class AttentionOf(Module):
    def __init__(self, implementation, mask):
        self.pair, self.options = PAIRS[implementation], {"visible": mask}

    def forward(self, query, key, value):
        output, kept = self.pair[0](query, key, value, **self.options)
        self.save(query, key, value, output, kept)
        return output

    def backward(self, dout):
        return self.pair[1](dout, *self.saved(), **self.options)


def random_heads(length, width, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, length, width, dtype=dtype, generator=generator) for _ in range(3)]


def gradients_of(function, inputs, dout):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    output = function(*leaves)
    output.backward(dout)
    return output.detach(), [leaf.grad for leaf in leaves]


@both_implementations
@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
@pytest.mark.parametrize("floating", [False, True])
def test_a_query_that_sees_nothing_gets_zeros_and_gives_none(floating, engine, implementation):
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[2] = False
    if floating:
        mask = torch.zeros(4, 4, dtype=torch.float64).masked_fill(~mask, -math.inf)
    inputs = random_heads(4, 5, torch.float64)
    dout = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    if engine == "autograd":
        output, gradients = gradients_of(lambda *x: PAIRS[implementation][0](*x, visible=mask)[0], inputs, dout)
    else:
        layer = AttentionOf(implementation, mask)
        with record():
            output = layer(*inputs)
            gradients = layer.backward(dout)
    assert (output[:, :, 2] == 0).all()
    assert (gradients[0][:, :, 2] == 0).all()
    rest = [0, 1, 3]
    _, expected = gradients_of(
        lambda q, k, v: scaled_dot_product_attention(q, k, v), [inputs[0][:, :, rest], *inputs[1:]], dout[:, :, rest]
    )
    torch.testing.assert_close(gradients[0][:, :, rest], expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(list(gradients[1:]), expected[1:], rtol=1e-12, atol=1e-12)


@both_implementations
@pytest.mark.parametrize("engine", ["handwritten", "autograd"])
def test_huge_scores_in_float32(engine, implementation):
    query = torch.tensor([[[[1e4], [-1e4], [0.0]]]])
    key = torch.tensor([[[[1.0], [-1.0], [0.5]]]])
    value = torch.tensor([[[[1.0], [2.0], [3.0]]]])
    dout = torch.tensor([[[[1.0], [1.0], [1.0]]]])
    if engine == "autograd":
        output, gradients = gradients_of(lambda *x: PAIRS[implementation][0](*x)[0], (query, key, value), dout)
    else:
        layer = AttentionOf(implementation, None)
        with record():
            output = layer(query, key, value)
            gradients = layer.backward(dout)
    torch.testing.assert_close(output.flatten(), torch.tensor([1.0, 2.0, 2.0]))
    # the third query weighs all keys by 1/3: dS = (value - 2) / 3
    torch.testing.assert_close(gradients[0].flatten(), torch.tensor([0.0, 0.0, (-1.0 + 0.5) / 3]))
    torch.testing.assert_close(gradients[1].flatten(), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients[2].flatten(), torch.tensor([4 / 3, 4 / 3, 1 / 3]))


@both_implementations
@pytest.mark.parametrize("dropped", [False, True])
def test_bfloat16_rounds_results_and_not_exponents(dropped, implementation):
    """The error is that of a few roundings to 8 bits, also where a score has too many digits for 8 bits."""
    query, key, value = random_heads(70, 16)
    dout = torch.randn(2, 3, 70, 16)
    dropout_mask = (torch.rand(2, 3, 70, 70) < 0.5) * 2.0 if dropped else None
    low = [tensor.bfloat16() for tensor in (4 * query, key, value, dout)]
    forward, backward = PAIRS[implementation]
    results = []
    for *inputs, gradient in (low, [tensor.float() for tensor in low]):
        options = {
            "causal": True,
            "dropout_mask": dropout_mask if dropout_mask is None else dropout_mask.to(gradient.dtype),
        }
        output, kept = forward(*inputs, **options)
        results.append([output, *backward(gradient, *inputs, output, kept, **options)])
    for name, found, wanted in zip(("output", "query", "key", "value"), *results, strict=True):
        assert found.dtype == torch.bfloat16
        error = (found.float() - wanted).norm() / wanted.norm()
        assert error < 0.01, (name, error)


@both_implementations
def test_the_most_negative_number_hides_less_than_minus_infinity(implementation):
    """Where it masks all keys, scores are lost beside it and every key has the same weight, as in torch.

    The gradients are those of the formula: torch's fused kernel loses the logarithm of the sum beside such a number.
    """
    query, key, value = random_heads(4, 5)
    dout = torch.randn(2, 3, 4, 5)
    mask = torch.zeros(4, 4)
    mask[1] = torch.finfo(torch.float32).min
    mask[2, :3] = torch.finfo(torch.float32).min
    mask[3, 0] = -math.inf
    layer = AttentionOf(implementation, mask)
    with record():
        output = layer(query, key, value)
        gradients = layer.backward(dout)
    torch.testing.assert_close(output, scaled_dot_product_attention(query, key, value, attn_mask=mask))
    _, wanted = gradients_of(
        lambda q, k, v: torch.softmax(q @ k.mT / math.sqrt(5) + mask, -1) @ v, (query, key, value), dout
    )
    torch.testing.assert_close(list(gradients), wanted)


@pytest.mark.parametrize("need_weights", [False, True])
def test_such_a_mask_in_multihead_attention(need_weights):
    torch.manual_seed(0)
    ours, twin = MultiheadAttention(6, 2, batch_first=True), torch.nn.MultiheadAttention(6, 2, batch_first=True)
    ours.load_state_dict(twin.state_dict())
    x = torch.randn(2, 4, 6)
    mask = torch.zeros(4, 4)
    mask[1] = torch.finfo(torch.float32).min
    found, weights = ours(x, x, x, attn_mask=mask, need_weights=need_weights)
    expected, twin_weights = twin(x, x, x, attn_mask=mask, need_weights=need_weights)
    torch.testing.assert_close(found, expected)
    if need_weights:
        torch.testing.assert_close(weights, twin_weights)


@both_implementations
def test_autocast_rounds_results_and_not_scores(implementation):
    torch.manual_seed(0)
    layer = SelfAttention(32, 2, causal=True, implementation=implementation)
    for tensor in layer.parameters():
        tensor.data.mul_(4)  # scores of twenty and more, of which bfloat16 keeps no digit behind the point
    x = torch.randn(2, 40, 32)
    dy = torch.randn(2, 40, 32)
    wrapped = as_torch(layer)
    results = []
    for autocast in (False, True):
        leaf = x.clone().requires_grad_()
        wrapped.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = wrapped(leaf)
        y.backward(dy.to(y.dtype))
        results.append([y.detach().float(), leaf.grad])
    assert y.dtype == torch.bfloat16
    # what rounding q, k and v to 8 bits does to torch's own kernel, which keeps scores in float32
    packed = torch.nn.functional.linear(x.bfloat16(), layer.in_proj_weight.bfloat16(), layer.in_proj_bias.bfloat16())
    q, k, v = packed.detach().view(2, 40, 3, 2, 16).permute(2, 0, 3, 1, 4)
    heads = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 40, 32)
    out_proj = layer.out_proj
    torchs = torch.nn.functional.linear(heads, out_proj.weight.bfloat16(), out_proj.bias.bfloat16()).detach().float()
    limit = 1.2 * (torchs - results[0][0]).norm()
    assert (results[1][0] - results[0][0]).norm() < limit
