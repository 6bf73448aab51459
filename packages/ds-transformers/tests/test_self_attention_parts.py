"""SelfAttention with heads that share keys, with rotary positions and with linear biases."""

import pytest
import torch
from attention_twins import GroupedAttention
from ds_core import no_record, record
from ds_core.testing import check_layer, check_twin, one_graph
from ds_transformers import AlibiPositions, KeyValueCache, RotaryPositions, SelfAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

every_implementation = pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
X = torch.randn(2, 4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PADDING = torch.tensor([[False, False, False, True], [False, True, False, False]])


def make(implementation="vectorized", num_kv_heads=None, positions="none", causal=True, batch_first=True, heads=4):
    """E = 12, H = 4, D = 3 without rotary positions; H = 3, D = 4 with them, which come in pairs."""
    parts = {}
    if positions == "rotary":
        heads, parts = 3, {"rotary": RotaryPositions(4, base=20.0)}
    if positions == "alibi":
        parts = {"alibi": AlibiPositions(heads)}
    layer = SelfAttention(
        12,
        heads,
        causal=causal,
        num_kv_heads=num_kv_heads,
        batch_first=batch_first,
        implementation=implementation,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
        **parts,
    )
    layer.in_proj_bias.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    return layer


@every_implementation
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_twin(groups, causal, bias, implementation):
    ours = SelfAttention(12, 4, causal=causal, bias=bias, num_kv_heads=groups, implementation=implementation)
    theirs = GroupedAttention(12, 4, groups, causal, bias)
    check_twin(ours, theirs, X, modes=["train"])
    check_twin(ours, theirs, X, kwargs={"key_padding_mask": PADDING}, modes=["train"])


@pytest.mark.parametrize("groups", [1, 2])
def test_grouped_heads_repeat_the_rows_of_the_weight(groups):
    """With each head's own copy of what it shares, the layer without groups computes the same."""
    grouped, whole = make(num_kv_heads=groups), make()
    shared = 4 // groups

    def spread(packed):
        query, key, value = packed.split([12, 3 * groups, 3 * groups])
        copies = [x.unflatten(0, (groups, 3)).repeat_interleave(shared, 0).flatten(0, 1) for x in (key, value)]
        return torch.cat([query, *copies])

    state = grouped.state_dict()
    assert state["in_proj_weight"].shape == (12 + 6 * groups, 12)
    whole.load_state_dict({k: spread(v) if k.startswith("in_proj") else v for k, v in state.items()})
    with no_record():
        torch.testing.assert_close(grouped(X), whole(X), rtol=1e-12, atol=1e-12)
    assert f"num_heads=4, num_kv_heads={groups}, causal=True" in repr(grouped)
    assert "num_kv_heads" not in repr(whole)


@every_implementation
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(
    ("positions", "groups"), [("none", 2), ("none", 1), ("rotary", None), ("rotary", 1), ("alibi", None), ("alibi", 2)]
)
def test_gradients(positions, groups, batch_first, implementation):
    layer = make(implementation, groups, positions, batch_first=batch_first)
    x = X if batch_first else X.transpose(0, 1)
    check_layer(layer, x, batch_dim=0 if batch_first else 1)


@every_implementation
@pytest.mark.parametrize("positions", ["rotary", "alibi"])
def test_gradients_beside_padding_and_dropout(positions, implementation):
    layer = make(implementation, 1, positions, causal=False)
    layer.dropout = 0.3
    check_layer(layer, X, kwargs={"key_padding_mask": PADDING}, batch_dim=None)


def test_rotary_positions_by_hand():
    """Queries and keys of each head turned, nothing else."""
    layer, rotary = make(positions="rotary", causal=False), RotaryPositions(4, base=20.0)
    with no_record():
        packed = X @ layer.in_proj_weight.t() + layer.in_proj_bias
        q, k, v = (part.unflatten(2, (3, 4)).transpose(1, 2) for part in packed.chunk(3, 2))
        weights = torch.softmax(rotary.rotate(q) @ rotary.rotate(k).mT / 2, -1)
        heads = (weights @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer(X), layer.out_proj(heads), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_linear_biases_by_hand(causal, padded):
    layer = make(positions="alibi", causal=causal)
    bias = AlibiPositions(4).bias(4, 4, X)
    # (B H, Tq, Tk), as a floating attn_mask of a layer without them
    mask = bias.expand(2, 4, 4, 4).flatten(0, 1)
    plain, options = make(causal=causal), {"key_padding_mask": PADDING} if padded else {}
    with no_record():
        torch.testing.assert_close(layer(X, **options), plain(X, attn_mask=mask, **options), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positions", ["none", "rotary", "alibi"])
def test_positions_are_no_state(positions):
    assert list(make(positions=positions).state_dict()) == [
        "in_proj_weight",
        "in_proj_bias",
        "out_proj.weight",
        "out_proj.bias",
    ]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    pieces=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    implementation=st.sampled_from(list(IMPLEMENTATIONS)),
    positions=st.sampled_from(["none", "rotary", "alibi"]),
    shared=st.booleans(),
    batch_first=st.booleans(),
)
def test_with_a_cache_pieces_equal_the_whole(pieces, implementation, positions, shared, batch_first):
    layer = make(implementation, 1 if shared else None, positions, batch_first=batch_first)
    length = sum(pieces)
    x = torch.randn(2, length, 12, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    x, axis = (x, 1) if batch_first else (x.transpose(0, 1), 0)
    cache = KeyValueCache(2, layer.num_kv_heads, length, layer.head_dim, dtype=torch.float64)
    with no_record():
        parts = [layer(piece, cache=cache) for piece in x.split(pieces, axis)]
        torch.testing.assert_close(torch.cat(parts, axis), layer(x), rtol=1e-12, atol=1e-12)


@every_implementation
def test_a_call_with_a_cache_may_be_causal_by_itself(implementation):
    """The decoder's layer has no fixed mask: `is_causal` says it for the call."""
    layer, whole = make(implementation, causal=False), make(implementation, causal=True)
    cache = KeyValueCache(2, 4, 4, 3, dtype=torch.float64)
    with no_record():
        parts = [layer(piece, cache=cache, is_causal=True) for piece in X.split([1, 2, 1], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), whole(X), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(make(implementation, causal=False)(X[0]), layer(X)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("num_kv_heads", [0, -1, 3, 8])
def test_impossible_groups(num_kv_heads):
    with pytest.raises(ValueError, match=f"SelfAttention: given num_heads=4 and num_kv_heads={num_kv_heads}"):
        SelfAttention(12, 4, num_kv_heads=num_kv_heads)


@pytest.mark.parametrize("positions", ["none", "rotary", "alibi"])
def test_traced_as_one_graph(positions):
    layer = make("vectorized", 1, positions)

    def step(x, dy):
        with record():
            y = layer(x, key_padding_mask=PADDING)
            return y, layer.backward(dy)

    found = one_graph(step)(X, X.flip(1))
    torch.testing.assert_close(found, step(X, X.flip(1)))
