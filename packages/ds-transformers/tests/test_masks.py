"""How masks merge, what is said of those that do not fit, and `is_causal` held against its mask."""

import math

import pytest
import torch
from attention_twins import causal_mask
from ds_core import ShapeError, no_record, record
from ds_core.testing import one_graph
from ds_transformers import CrossAttention, MultiheadAttention, SelfAttention, attention
from ds_transformers.attentions.masks import (
    add_bias,
    check_causal,
    check_masks,
    first_aligned_causal,
    is_causal_mask,
    merge_masks,
    nan_where_nothing_visible,
    resolve_causal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

INF = math.inf
QUERY = torch.zeros(2, 3, 4, 5)  # two examples, three heads, four queries


def floating(mask):
    return torch.zeros(mask.shape).masked_fill(mask, -INF)


def test_worked_example():
    hidden = torch.tensor([[False, True], [False, False]])
    padding = torch.tensor([[0.0, -0.6931]])
    query = torch.zeros(1, 1, 2, 1)
    merged = merge_masks(query, padding, hidden)
    assert merged.tolist() == [[[[0.0, -INF], [0.0, pytest.approx(-0.6931)]]]]
    value = torch.tensor([[[[1.0, 2.0], [4.0, -1.0]]]])
    output, probabilities = attention(query, torch.zeros(1, 1, 2, 1), value, visible=merged)
    # 1 / (1 + 1/2) = 0.6667
    torch.testing.assert_close(probabilities[0, 0], torch.tensor([[1.0, 0.0], [0.6667, 0.3333]]), rtol=0, atol=5e-5)
    torch.testing.assert_close(output[0, 0], torch.tensor([[1.0, 2.0], [2.0, 1.0]]), rtol=0, atol=1e-4)
    nothing = merge_masks(query, torch.tensor([[True, True]]), hidden)
    output, _ = attention(query, torch.zeros(1, 1, 2, 1), value, visible=nothing)
    assert output.abs().sum() == 0.0


def test_no_mask_is_none():
    assert merge_masks(QUERY, None, None) is None


def seen_by_hand(padding, mask):
    """(B, H, Tq, Tk), index by index."""
    seen = torch.ones(2, 3, 4, 6, dtype=torch.bool)
    for b, h, i, j in torch.ones_like(seen).nonzero().tolist():
        hidden = padding is not None and padding[b, j]
        if mask is not None:
            hidden = hidden or (mask[i, j] if mask.dim() == 2 else mask[3 * b + h, i, j])
        seen[b, h, i, j] = not hidden
    return seen


@pytest.mark.parametrize("padded", [None, "boolean", "floating"])
@pytest.mark.parametrize("masked", [None, "boolean", "floating"])
@pytest.mark.parametrize("several", [False, True])
def test_merged_index_by_index(several, masked, padded):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.rand((6, 4, 6) if several else (4, 6), generator=generator) < 0.4
    padding = torch.rand(2, 6, generator=generator) < 0.4
    given_masks = [
        None if kind is None else mask if kind == "boolean" else floating(mask)
        for kind, mask in ((padded, padding), (masked, hidden))
    ]
    merged = merge_masks(QUERY, *given_masks)
    if masked is None and padded is None:
        assert merged is None
        return
    seen = seen_by_hand(None if padded is None else padding, None if masked is None else hidden)
    if "floating" in (masked, padded):
        assert merged.dtype == QUERY.dtype
        assert torch.equal(merged.expand(2, 3, 4, 6), floating(~seen))
    else:
        assert torch.equal(merged.expand(2, 3, 4, 6), seen)


def test_floating_masks_are_added():
    mask, padding = torch.randn(4, 6), torch.randn(2, 6)
    expected = mask[None, None] + padding[:, None, None]
    assert torch.equal(merge_masks(QUERY, padding, mask), expected)


def test_one_padding_mask_without_a_batch():
    padding = torch.tensor([True, False, False])
    assert merge_masks(QUERY[:1], padding, None).tolist() == [[[[False, True, True]]]]


def test_a_bias_and_a_mask():
    bias = torch.randn(1, 3, 2, 2)
    seen = torch.tensor([[True, False], [True, True]])
    added = torch.randn(2, 2)
    assert add_bias(bias, None) is bias
    assert torch.equal(add_bias(bias, seen), bias + floating(~seen))
    assert torch.equal(add_bias(bias, added), bias + added)


@pytest.mark.parametrize("kind", ["boolean", "floating"])
def test_only_rows_that_hide_everything_become_nan(kind):
    hidden = torch.tensor([[True, True], [True, False], [False, False]])
    found = nan_where_nothing_visible(~hidden if kind == "boolean" else floating(hidden), torch.float32)
    torch.testing.assert_close(
        found, torch.tensor([[math.nan, math.nan], [-INF, 0.0], [0.0, 0.0]]), equal_nan=True, rtol=0, atol=0
    )
    assert nan_where_nothing_visible(torch.zeros(3, 0), torch.float32).shape == (3, 0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(queries=st.integers(0, 5), keys=st.integers(0, 5), several=st.booleans(), index=st.integers(0, 99))
def test_a_causal_mask_is_found_and_no_other(queries, keys, several, index):
    mask = causal_mask(queries, keys)
    assert torch.equal(first_aligned_causal(queries, keys, QUERY), ~mask)
    mask = mask.expand(3, queries, keys).clone() if several else mask
    assert is_causal_mask(mask)
    assert is_causal_mask(floating(mask))
    if mask.numel() > 0:
        other = mask.clone()
        other.view(-1)[index % mask.numel()].logical_not_()
        assert not is_causal_mask(other)
        assert not is_causal_mask(floating(other))
        small = floating(mask)
        small.view(-1)[index % mask.numel()] = -1.0  # neither 0 nor -inf
        assert not is_causal_mask(small)


def test_a_vector_is_no_causal_mask():
    assert not is_causal_mask(torch.zeros(3))


LAYERS = {
    "SelfAttention": (SelfAttention(6, 3), 1),
    "CrossAttention": (CrossAttention(6, 3), 2),
    "MultiheadAttention": (MultiheadAttention(6, 3, batch_first=True), 3),
}


def run(name, **options):
    layer, inputs = LAYERS[name]
    with no_record():
        return layer(*torch.ones(inputs, 2, 4, 6), **options)


every_layer = pytest.mark.parametrize("layer", LAYERS)


@every_layer
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["boolean", "floating"])
def test_a_mask_that_contradicts_is_causal(kind, several, layer):
    causal = causal_mask(4).expand(6, 4, 4).clone() if several else causal_mask(4)
    for cell in [(0, 1), (2, 1)]:  # shows a later key; hides an earlier one
        mask = causal.clone()
        mask[(-1, *cell) if several else cell] ^= True
        with pytest.raises(ValueError, match=rf"{layer}\(.*is_causal=True contradicts attn_mask \({'6, ' * several}4"):
            run(layer, attn_mask=mask if kind == "boolean" else floating(mask), is_causal=True)
    run(layer, attn_mask=causal if kind == "boolean" else floating(causal), is_causal=True)


@every_layer
def test_a_mask_that_is_changed_after_it_was_found_to_be_causal(layer):
    mask = causal_mask(4)
    for _ in range(2):
        run(layer, attn_mask=mask, is_causal=True)
    mask[3, 0] = True
    with pytest.raises(ValueError, match="contradicts"):
        run(layer, attn_mask=mask, is_causal=True)
    mask[3, 0] = False
    run(layer, attn_mask=mask, is_causal=True)


@every_layer
@pytest.mark.parametrize("kind", ["boolean", "floating"])
def test_no_edit_of_a_causal_mask_is_missed(kind, layer):
    mask = causal_mask(4) if kind == "boolean" else floating(causal_mask(4))
    hidden, seen = mask[0, 3].item(), mask[3, 0].item()

    def through_data(value):
        mask.data[3, 0] = value

    def through_numpy(value):
        mask.numpy()[3, 0] = value

    def through_a_view(value):
        mask[3:, 0].fill_(value)

    for edit in (through_data, through_numpy, through_a_view):
        run(layer, attn_mask=mask, is_causal=True)
        assert resolve_causal(mask, None)
        edit(hidden)
        with pytest.raises(ValueError, match="contradicts"):
            run(layer, attn_mask=mask, is_causal=True)
        assert not resolve_causal(mask, None)
        edit(seen)
    with torch.inference_mode():
        run(layer, attn_mask=mask.clone(), is_causal=True)
    run(layer, attn_mask=mask, is_causal=True)


@every_layer
def test_is_causal_without_a_mask(layer):
    with pytest.raises(RuntimeError, match=rf"{layer}\(.*is_causal says that attn_mask is the causal mask, but none"):
        run(layer, is_causal=True)


@every_layer
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (causal_mask(3), r"given attn_mask \(3, 3\), expected \(4, 4\) or \(6, 4, 4\)"),
        (causal_mask(4).expand(3, 4, 4), r"given attn_mask \(3, 4, 4\), expected \(4, 4\) or \(6, 4, 4\)"),
        (causal_mask(4)[0], r"given attn_mask \(4,\)"),
        (causal_mask(4).long(), r"given attn_mask of torch.int64, expected torch.bool or a floating dtype"),
        (causal_mask(4).to("meta"), r"given attn_mask on meta, expected it on cpu, where the inputs are"),
    ],
)
def test_attention_masks_that_do_not_fit(mask, message, is_causal, layer):
    """Also where `is_causal` makes it unnecessary to read them."""
    with pytest.raises(ShapeError, match=rf"{layer}\(.*\): {message}"):
        run(layer, attn_mask=mask, is_causal=is_causal)


@every_layer
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(2, 3), r"given key_padding_mask \(2, 3\), expected \(2, 4\)"),
        (torch.zeros(4, 2), r"given key_padding_mask \(4, 2\), expected \(2, 4\)"),
        (torch.zeros(4), r"given key_padding_mask \(4,\), expected \(2, 4\)"),
        (torch.zeros(2, 4, dtype=torch.uint8), "given key_padding_mask of torch.uint8, expected torch.bool or a float"),
        (torch.zeros(2, 4, device="meta"), "given key_padding_mask on meta, expected it on cpu, where the inputs are"),
    ],
)
def test_padding_masks_that_do_not_fit(mask, message, layer):
    with pytest.raises(ShapeError, match=rf"{layer}\(.*\): {message}"):
        run(layer, key_padding_mask=mask)


def test_masks_without_a_batch_are_named_as_they_were_given():
    with pytest.raises(ShapeError, match=r"given key_padding_mask \(1, 4\), expected \(4,\)"):
        check_masks(SelfAttention(6, 3), QUERY[:1], 4, torch.zeros(1, 4), None, batched=False)
    with pytest.raises(ShapeError, match=r"given attn_mask \(2, 4, 4\), expected \(4, 4\) or \(3, 4, 4\)"):
        check_masks(SelfAttention(6, 3), QUERY[:1], 4, None, torch.zeros(2, 4, 4), batched=False)


def test_on_the_meta_device_the_promise_is_believed():
    mask = torch.zeros(4, 4, device="meta")
    check_masks(SelfAttention(6, 3), QUERY.to("meta"), 4, None, mask, is_causal=True)
    assert resolve_causal(mask, None) is False


@pytest.mark.parametrize("kind", ["boolean", "floating"])
def test_resolving(kind):
    mask = causal_mask(4) if kind == "boolean" else floating(causal_mask(4))
    assert [resolve_causal(mask, None) for _ in range(2)] == [True, True]  # read, and then known
    assert resolve_causal(mask, False) is False
    assert resolve_causal(None, True) is True
    assert resolve_causal(None, None) is False
    assert resolve_causal(causal_mask(4, 5), None) is False
    assert resolve_causal(mask.expand(6, 4, 4), None) is False
    mask[0, 0] = True if kind == "boolean" else -INF
    assert resolve_causal(mask, None) is False


def test_each_mask_is_read_once(monkeypatch):
    read = []

    def reading(mask):
        read.append(mask)
        return is_causal_mask(mask)

    monkeypatch.setitem(check_causal.__globals__, "is_causal_mask", reading)
    mask = causal_mask(4)
    assert resolve_causal(mask, None)
    for _ in range(3):
        check_causal("layer", mask, True)
    assert len(read) == 1


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        mask = causal_mask(4)
        assert resolve_causal(mask, None)
        check_causal("layer", mask, True)
        mask[0, 0] = True
        with pytest.raises(ValueError, match="contradicts"):
            check_causal("layer", mask, True)
        assert not resolve_causal(mask, None)


@every_layer
def test_compiled_masks_are_read_and_the_promise_is_believed(layer):
    def found(mask, padding, is_causal):
        return run(layer, attn_mask=mask, key_padding_mask=padding, is_causal=resolve_causal(mask, is_causal))

    compiled = one_graph(found, graphs=2)  # one each for the two values of is_causal
    padding = torch.tensor([[False, False, False, True], [False] * 4])
    for mask, is_causal in [(causal_mask(4), None), (causal_mask(4), True), (~causal_mask(4), None)]:
        given_masks = (mask, padding, is_causal)  # the last one hides all keys from a query: NaN beside weights
        torch.testing.assert_close(compiled(*given_masks), found(*given_masks), equal_nan=True)


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
def test_a_mask_that_requires_a_gradient_is_refused_while_recording(name):
    """Autograd would train it, the handwritten engine would not."""
    layer, x = MultiheadAttention(4, 2, batch_first=True), torch.ones(1, 3, 4)
    mask = torch.zeros((3, 3) if name == "attn_mask" else (1, 3), requires_grad=True)
    layer(x, x, x, **{name: mask})[0].sum().backward()
    assert mask.grad is not None
    message = rf"the argument {name} of MultiheadAttention\(.* requires a gradient, but the layer's backward gives none"
    with pytest.raises(TypeError, match=message), record():
        layer(x, x, x, **{name: mask})
    with no_record():
        layer(x, x, x, **{name: mask})
