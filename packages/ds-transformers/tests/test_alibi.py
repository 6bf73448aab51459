import pytest
import torch
from ds_core import primitives_only, record
from ds_core.testing import one_graph
from ds_transformers import (
    AlibiPositions,
    alibi_bias,
    alibi_slopes,
    attention,
    attention_backward,
    tiled_attention,
    tiled_attention_backward,
)
from hypothesis import given, settings
from hypothesis import strategies as st

PAIRS = {"vectorized": (attention, attention_backward), "tiled": (tiled_attention, tiled_attention_backward)}


def test_worked_example():
    assert alibi_slopes(3) == [0.0625, 0.00390625, 0.25]
    assert [round(slope, 4) for slope in alibi_slopes(3)] == [0.0625, 0.0039, 0.25]
    bias = alibi_bias(2, 2, 3)
    assert bias.shape == (1, 2, 2, 3)
    assert bias[0, 0].tolist() == [[-0.0625, 0.0, -0.0625], [-0.125, -0.0625, 0.0]]
    torch.testing.assert_close(
        bias[0, 1], torch.tensor([[-0.0039, 0.0, -0.0039], [-0.0078, -0.0039, 0.0]]), rtol=0, atol=5e-5
    )


def test_slopes_of_the_paper():
    assert alibi_slopes(8) == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(1) == [2.0**-8]
    assert alibi_slopes(16) == pytest.approx([2 ** (-h / 2) for h in range(1, 17)], rel=1e-15)


@pytest.mark.parametrize("heads", [3, 5, 6, 7, 12, 20, 25])
def test_slopes_between_powers_of_two(heads):
    power = max(2**k for k in range(6) if 2**k <= heads)
    expected = alibi_slopes(power) + alibi_slopes(2 * power)[0::2][: heads - power]
    assert alibi_slopes(heads) == pytest.approx(expected, rel=1e-15)
    assert len(set(alibi_slopes(heads))) == heads


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    heads=st.integers(1, 9),
    queries=st.integers(0, 6),
    keys=st.integers(0, 6),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_index_by_index(heads, queries, keys, dtype):
    bias = alibi_bias(heads, queries, keys, dtype=dtype)
    slopes = alibi_slopes(heads)
    assert bias.shape == (1, heads, queries, keys)
    assert bias.dtype == dtype
    for h in range(heads):
        for i in range(queries):
            for j in range(keys):
                expected = -slopes[h] * abs(i + keys - queries - j)
                rounding = {torch.float64: 1e-15, torch.float32: 1e-6, torch.bfloat16: 2**-8}[dtype]
                assert bias[0, h, i, j].item() == pytest.approx(expected, rel=rounding)


def test_half_precision_is_rounded_once():
    assert torch.equal(alibi_bias(3, 1, 700, dtype=torch.bfloat16), alibi_bias(3, 1, 700).bfloat16())
    assert torch.equal(alibi_bias(16, 1, 700, dtype=torch.bfloat16), alibi_bias(16, 1, 700).bfloat16())
    bias = AlibiPositions(3).bias(2, 700, torch.zeros(1, dtype=torch.bfloat16))
    assert torch.equal(bias, alibi_bias(3, 2, 700, dtype=torch.float32))


def by_hand(query, key, value, slopes, causal):
    """Scores, biases and softmax by autograd's operations, head by head."""
    queries, keys = query.shape[2], key.shape[2]
    positions = torch.arange(queries) + keys - queries
    heads = []
    for h, slope in enumerate(slopes):
        scores = query[:, h] @ key[:, h].transpose(1, 2) / query.shape[3] ** 0.5
        distance = positions[:, None] - torch.arange(keys)
        scores = scores - slope * distance.abs()
        if causal:
            scores = scores.masked_fill(distance < 0, -torch.inf)
        heads.append(scores.softmax(-1) @ value[:, h])
    return torch.stack(heads, 1)


@pytest.mark.parametrize("implementation", list(PAIRS))
@pytest.mark.parametrize(("causal", "one_row"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("queries", [5, 2, 1])
def test_as_a_mask_of_attention(implementation, causal, one_row, queries):
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, length, 4, dtype=torch.float64, requires_grad=True) for length in (queries, 5, 5)]
    dout = torch.randn(2, 3, queries, 4, dtype=torch.float64)
    expected = by_hand(*inputs, alibi_slopes(3), causal)
    expected.backward(dout)
    mask = AlibiPositions(3).bias(1 if one_row else queries, 5, inputs[0])
    assert mask.shape == (1, 3, 1 if one_row else queries, 5)
    options = {"visible": mask, "causal": causal} | ({"rows": 2} if implementation == "tiled" else {})
    forward, backward = PAIRS[implementation]
    with torch.no_grad():
        output, kept = forward(*inputs, **options)
        gradients = backward(dout, *inputs, output, kept, **options)
    torch.testing.assert_close(output, expected.detach(), rtol=0, atol=1e-12)
    for found, leaf in zip(gradients, inputs, strict=True):
        torch.testing.assert_close(found, leaf.grad, rtol=0, atol=1e-12)


def test_primitives_only_and_no_state():
    layer = AlibiPositions(6)
    with record() as trace, primitives_only():
        layer.bias(3, 4, torch.zeros(2))
        assert len(trace) == 0
    assert layer.state_dict() == {}
    assert repr(layer) == "AlibiPositions(num_heads=6)"


def test_compiles_in_one_graph():
    layer = AlibiPositions(3)
    compiled = one_graph(lambda x: layer.bias(x.shape[0], x.shape[1], x), dynamic=True)
    for shape in [(3, 4), (5, 7)]:
        torch.testing.assert_close(compiled(torch.zeros(shape)), layer.bias(*shape, torch.zeros(1)))


@pytest.mark.parametrize("heads", [0, -2])
def test_impossible_arguments_are_named(heads):
    for make in (alibi_slopes, AlibiPositions):
        with pytest.raises(ValueError, match=f"num_heads={heads}, expected 1 or more"):
            make(heads)


@pytest.mark.parametrize(("queries", "keys"), [(-1, 3), (2, -3)])
def test_negative_lengths_are_named(queries, keys):
    with pytest.raises(ValueError, match=f"queries={queries}, keys={keys}"):
        alibi_bias(2, queries, keys)
