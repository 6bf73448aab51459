import math

import pytest
import torch
from attention_twins import TorchSelfAttention
from ds_core import Recompute, ShapeError, no_record, primitives_only, record
from ds_core.testing import check_layer, check_twin, one_graph
from ds_transformers import KeyValueCache, SelfAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

COMPILED = ["vectorized", "tiled"]  # "loops" looks at numbers


every_implementation = pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))


@every_implementation
def test_worked_example(implementation):
    def matrix(*rows):
        return torch.tensor(rows, dtype=torch.float64)

    def same(found, expected, tolerance=1e-12):
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)

    ln3, eye = math.log(3), matrix([1.0, 0.0], [0.0, 1.0])
    w_q, w_k, w_v = math.sqrt(2) * eye, ln3 * eye.flip(0), matrix([1.0, 3.0], [2.0, -1.0])
    layer = SelfAttention(2, 1, bias=False, implementation=implementation, dtype=torch.float64)
    layer.load_state_dict({"in_proj_weight": torch.cat([w_q, w_k, w_v]), "out_proj.weight": 2 * eye})
    with record():
        y = layer(eye[None])[0]
        dx = layer.backward(matrix([0.5, 1.0], [-0.5, 2.0])[None])[0]
    same(y, matrix([5.0, -0.5], [3.0, 2.5]))
    # x = I, so that the gradients of the packed weight are dQ^T, dK^T and dV^T
    dq, dk, dv = (part.t() for part in layer.in_proj_weight.grad.chunk(3))
    dscores = matrix([0.75, -0.75], [2.625, -2.625])
    same(dq, dscores @ w_k.t() / math.sqrt(2))
    same(dk, dscores.t() @ w_q.t() / math.sqrt(2))
    same(dv, matrix([-0.5, 3.5], [0.5, 2.5]))
    same(dq @ w_q, ln3 * matrix([-0.75, 0.75], [-2.625, 2.625]))
    same(dk @ w_k, ln3 * matrix([2.625, 0.75], [-2.625, -0.75]))
    same(dv @ w_v, matrix([6.5, -5.0], [5.5, -1.0]))
    same(dx, matrix([8.5599, -3.3521], [-0.2677, 1.0599]), 5e-5)


@every_implementation
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("num_heads", [1, 3])
def test_gradients_and_twin_over_all_arguments(num_heads, bias, causal, implementation):
    layer = SelfAttention(6, num_heads, causal=causal, bias=bias, implementation=implementation)
    x = torch.randn(2, 4, 6)
    check_layer(layer, x)
    check_twin(layer, TorchSelfAttention(6, num_heads, causal, bias), x)


@every_implementation
@pytest.mark.parametrize("dropout", [0.3, 1.0])
def test_gradients_under_dropout(dropout, implementation):
    check_layer(SelfAttention(6, 2, causal=True, dropout=dropout, implementation=implementation), torch.randn(2, 5, 6))


@every_implementation
def test_padding_is_not_seen(implementation):
    layer = SelfAttention(6, 2, implementation=implementation)
    x = torch.randn(2, 5, 6)
    padding = torch.tensor([[False] * 5, [False, False, False, True, True]])
    check_layer(layer, x, kwargs={"key_padding_mask": padding}, batch_dim=None)
    check_twin(layer, TorchSelfAttention(6, 2), x, kwargs={"key_padding_mask": padding})
    with torch.no_grad():
        torch.testing.assert_close(layer(x, key_padding_mask=padding)[1, :3], layer(x[1:, :3])[0])


@every_implementation
@pytest.mark.parametrize("length", [0, 1])
def test_no_token_and_one(length, implementation):
    check_layer(
        SelfAttention(6, 2, causal=True, implementation=implementation),
        torch.randn(2, length, 6),
        skip=["finite differences"] if length == 0 else [],
    )


@pytest.mark.parametrize("bias", [False, True])
def test_the_same_seed_gives_torchs_weights(bias):
    torch.manual_seed(3)
    ours = SelfAttention(8, 2, bias=bias)
    torch.manual_seed(3)
    theirs = torch.nn.MultiheadAttention(8, 2, bias=bias)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name


def test_a_generator_leaves_the_default_one_alone():
    state = torch.get_rng_state()
    first, second = (SelfAttention(8, 2, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.in_proj_weight, second.in_proj_weight)
    assert torch.equal(first.out_proj.weight, second.out_proj.weight)


@every_implementation
@pytest.mark.parametrize("position", [0, 3, 6])
def test_causal_means_no_gradient_to_the_future(position, implementation):
    layer = SelfAttention(6, 2, causal=True, implementation=implementation)
    x = torch.randn(2, 7, 6)
    dy = torch.zeros(2, 7, 6)
    dy[:, position] = 1.0
    with record():
        y = layer(x)
        dx = layer.backward(dy)
    assert (dx[:, position + 1 :] == 0).all()
    assert (dx[:, : position + 1].abs().sum(-1) > 0).all()
    x[:, position + 1 :] = torch.randn_like(x[:, position + 1 :])
    with no_record():
        assert torch.equal(layer(x)[:, : position + 1], y[:, : position + 1])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    pieces=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    room=st.integers(0, 3),
    implementation=st.sampled_from(list(IMPLEMENTATIONS)),
)
def test_with_a_cache_pieces_equal_the_whole(pieces, room, implementation):
    layer = SelfAttention(6, 3, causal=True, implementation=implementation).double()
    length = sum(pieces)
    x = torch.randn(2, length, 6, dtype=torch.float64)
    cache = KeyValueCache(2, 3, length + room, 2, dtype=torch.float64)
    with no_record():
        parts = [layer(piece, cache=cache) for piece in x.split(pieces, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), layer(x), rtol=1e-12, atol=1e-12)
    assert cache.length == length


def test_dropout_only_in_training():
    layer = SelfAttention(6, 2, dropout=0.5)
    x = torch.randn(2, 5, 6)
    with no_record():
        assert not torch.equal(layer(x), layer(x))
        layer.eval()
        assert torch.equal(layer(x), layer(x))


def test_recompute_draws_the_same_dropout():
    layer = SelfAttention(6, 2, dropout=0.5, implementation="tiled").double()
    x, dy = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    gradients = []
    for run in (layer, Recompute(layer)):
        torch.manual_seed(0)
        with record():
            run.forward(x)
            gradients.append(run.backward(dy))
    assert torch.equal(*gradients)


def kept_bytes(implementation, length):
    layer = SelfAttention(8, 2, causal=True, implementation=implementation)
    with record() as trace:
        layer(torch.randn(1, length, 8))
        kept = sum(line.bytes for line in trace.kept())
        layer.backward(None)
    return kept


def test_memory_kept_is_what_the_page_says():
    """x, Q, K, V and the merged heads: 5 B T E numbers; beside them B H T^2 probabilities or 2 B H T numbers."""
    for length in (64, 300):
        assert kept_bytes("vectorized", length) == 4 * (5 * length * 8 + 2 * length * length)
        assert kept_bytes("tiled", length) == 4 * (5 * length * 8 + 2 * 2 * length)


def test_work_not_needed_is_not_done():
    layer = SelfAttention(6, 2).requires_grad_(False)
    with record():
        layer(torch.randn(2, 4, 6))
        with primitives_only() as operations:
            assert layer.backward(torch.randn(2, 4, 6), input_gradient=False) is None
    assert operations["bmm"] == operations["baddbmm"] == 0
    assert all(tensor.grad is None for tensor in layer.parameters())


@pytest.mark.parametrize("implementation", COMPILED)
def test_traced_as_one_graph(implementation):
    layer = SelfAttention(6, 2, causal=True, dropout=0.2, implementation=implementation).eval()
    x, dy = torch.randn(2, 2, 5, 6)

    def step(x, dy):
        with record():
            y = layer(x)
            return y, layer.backward(dy)

    expected = step(x, dy)
    gradients = [tensor.grad for tensor in layer.parameters()]
    layer.zero_grad()
    found = one_graph(step)(x, dy)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close([tensor.grad for tensor in layer.parameters()], gradients)


@every_implementation
def test_bfloat16(implementation):
    layer = SelfAttention(8, 2, causal=True, implementation=implementation, dtype=torch.bfloat16)
    x = torch.randn(2, 5, 8, dtype=torch.bfloat16)
    with record():
        y = layer(x)
        dx = layer.backward(torch.randn_like(x))
    assert y.dtype == dx.dtype == torch.bfloat16
    assert all(tensor.grad.dtype == torch.bfloat16 for tensor in layer.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 6, "num_heads": 4}, "embed_dim=6 and num_heads=4"),
        ({"embed_dim": 6, "num_heads": 0}, "num_heads=0"),
        ({"embed_dim": 0, "num_heads": 1}, "embed_dim=0"),
        ({"embed_dim": 6, "num_heads": 2, "dropout": 1.5}, "dropout=1.5"),
        ({"embed_dim": 6, "num_heads": 2, "dropout": math.nan}, "dropout=nan"),
        ({"embed_dim": 6, "num_heads": 2, "implementation": "fast"}, "'fast', expected one of vectorized, tiled"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SelfAttention(**arguments)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(2, 4, 5), {}, r"input of shape \(2, 4, 5\), expected \(B, T, 6\) or \(T, 6\)"),
        (torch.zeros(6), {}, r"input of shape \(6,\)"),
        (torch.zeros(2, 4, 6), {"key_padding_mask": torch.zeros(2, 3, dtype=torch.bool)}, r"\(2, 3\).*\(2, 4\)"),
        (torch.zeros(2, 4, 6), {"key_padding_mask": torch.zeros(2, 4).long()}, "torch.int64, expected torch.bool"),
        (torch.zeros(2, 4, 6), {"cache": KeyValueCache(3, 2, 9, 3)}, r"KeyValueCache.*B=3"),
        (torch.zeros(2, 4, 6), {"cache": KeyValueCache(2, 3, 9, 2)}, "H=3"),
    ],
)
def test_inputs_that_do_not_fit_are_named(x, options, message):
    with no_record(), pytest.raises(ShapeError, match=message):
        SelfAttention(6, 2, causal=True)(x, **options)


@every_implementation
@pytest.mark.parametrize("floating", [False, True])
def test_with_a_cache_and_padding_pieces_equal_the_whole(floating, implementation):
    layer = SelfAttention(6, 3, causal=True, implementation=implementation).double()
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    padding = torch.tensor([[1, 1, 1, 0, 0, 0, 0], [0] * 7, [1, 0, 0, 1, 0, 1, 0]]).bool()  # left, none, holes
    if floating:
        padding = torch.zeros(3, 7, dtype=torch.float64).masked_fill(padding, -math.inf)
    cache = KeyValueCache(3, 3, 8, 2, dtype=torch.float64)
    with no_record():
        whole = layer(x, key_padding_mask=padding)
        ends = [2, 3, 4, 7]
        parts = [
            layer(x[:, start:end], cache=cache, key_padding_mask=padding[:, :end])
            for start, end in zip([0, *ends], ends, strict=False)
        ]
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-12, atol=1e-12)
        # as the second text alone, and the first without its padding
        torch.testing.assert_close(whole[1], layer(x[1]), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(whole[0, 3:], layer(x[0, 3:]), rtol=1e-12, atol=1e-12)


def test_a_cache_needs_a_causal_layer_and_no_other_mask():
    cache = KeyValueCache(2, 2, 9, 3)
    x = torch.zeros(2, 4, 6)
    with no_record():
        with pytest.raises(ValueError, match="a cache needs causal=True"):
            SelfAttention(6, 2)(x, cache=cache)
        layer = SelfAttention(6, 2, causal=True)
        with pytest.raises(ValueError, match="attn_mask cannot be given together; key_padding_mask can"):
            layer(x, cache, attn_mask=torch.zeros(4, 4, dtype=torch.bool))
        assert cache.length == 0
        layer(x, cache)
        with pytest.raises(ShapeError, match=r"key_padding_mask \(2, 4\), expected \(2, 8\)"):
            layer(x, cache, torch.zeros(2, 4, dtype=torch.bool))
    assert cache.length == 4
