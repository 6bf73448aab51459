"""A memory whose keys and values are computed once, for texts written token by token, and for beams."""

import pytest
import torch
from ds_core import ShapeError, no_record, primitives_only, record
from ds_transformers import CrossAttention
from ds_transformers.attentions.implementations import IMPLEMENTATIONS

DRAWS = torch.Generator().manual_seed(0)
MEMORY = torch.randn(2, 5, 12, generator=DRAWS, dtype=torch.float64)
PADDING = {
    "none": None,
    "boolean": torch.tensor([[False, False, False, True, True], [False] * 5]),
    "floating": torch.randn(2, 5, generator=DRAWS, dtype=torch.float64),
}
BATCH_AND_TIME = [(True, 1), (True, 3), (False, 1), (False, 3)]


def make(implementation="vectorized", groups=None, batch_first=True, dropout=0.0):
    return CrossAttention(
        12,
        4,
        dropout=dropout,
        num_kv_heads=groups,
        batch_first=batch_first,
        implementation=implementation,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("implementation", list(IMPLEMENTATIONS))
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("groups", [None, 2, 1])
@pytest.mark.parametrize("width", [1, 3])
def test_equals_the_plain_forward(width, groups, padding, implementation):
    """Row w b + i of x belongs to example b of the memory, which the plain forward wants w times."""
    for batch_first, length in BATCH_AND_TIME:
        layer = make(implementation, groups, batch_first)
        x = torch.randn(2 * width, length, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        repeated = MEMORY.repeat_interleave(width, 0)
        mask = PADDING[padding]
        wide_mask = None if mask is None else mask.repeat_interleave(width, 0)
        inputs = [x, repeated, MEMORY]
        if not batch_first:
            inputs = [tensor.transpose(0, 1) for tensor in inputs]
        with no_record():
            expected = layer(inputs[0], inputs[1], wide_mask)
            found = layer(inputs[0], layer.project(inputs[2]), mask)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_an_attention_mask_where_no_beam_is():
    layer, x, mask = make(), MEMORY[:, :3], torch.ones(3, 5, dtype=torch.bool).triu(1)
    with no_record():
        projected = layer.project(MEMORY)
        found = layer(x, projected, attn_mask=mask, is_causal=True)
        torch.testing.assert_close(found, layer(x, MEMORY, attn_mask=mask), rtol=1e-12, atol=1e-12)
        with pytest.raises(RuntimeError, match="is_causal says"):
            layer(x, projected, is_causal=True)
        with pytest.raises(ShapeError, match=r"given attn_mask \(3, 5\), expected \(2, 5\)"):
            layer(x[:, :2], projected, attn_mask=mask)
        with pytest.raises(ShapeError, match=r"given key_padding_mask \(4, 5\), expected \(2, 5\)"):
            layer(x, projected, PADDING["boolean"].repeat(2, 1))
        with pytest.raises(ValueError, match="given an attn_mask and 2 rows of x for each of the memory's"):
            layer(x.repeat(2, 1, 1), projected, attn_mask=mask)


def test_dropout_as_in_the_plain_forward():
    layer = make(dropout=0.5)
    with no_record():
        projected = layer.project(MEMORY)
        torch.manual_seed(0)
        found = layer(MEMORY, projected)
        torch.manual_seed(0)
        torch.testing.assert_close(found, layer(MEMORY, MEMORY), rtol=1e-12, atol=1e-12)
        layer.eval()
        assert not torch.allclose(found, layer(MEMORY, projected))


def test_what_it_is():
    layer = make(groups=2)
    with no_record():
        memory = layer.project(MEMORY)
    assert memory.key.shape == memory.value.shape == (2, 2, 5, 3)
    assert memory.owner is layer
    key, value = (MEMORY @ layer.in_proj_weight[12:].detach().t() + layer.in_proj_bias[12:].detach()).chunk(2, 2)
    torch.testing.assert_close(memory.key, key.unflatten(2, (2, 3)).transpose(1, 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(memory.value, value.unflatten(2, (2, 3)).transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_a_step_projects_the_query_alone_and_copies_no_memory():
    layer = make(groups=1)
    with no_record():
        memory = layer.project(MEMORY)
        with primitives_only() as operations:
            layer(torch.ones(6, 1, 12, dtype=torch.float64), memory, PADDING["boolean"])
    assert operations["addmm"] + operations["mm"] == 2  # the query's projection and out_proj
    assert operations["repeat"] == 0


def test_of_no_example():
    layer = make()
    with no_record():
        assert layer(MEMORY[:0, :1], layer.project(MEMORY[:0])).shape == (0, 1, 12)


def test_it_is_not_for_training():
    layer = make()
    with no_record():
        memory = layer.project(MEMORY)
    for use in (lambda: layer.project(MEMORY), lambda: layer(MEMORY, memory)):
        with pytest.raises(RuntimeError, match=r"CrossAttention\(.*use it under no_record\(\)"):
            use()
        with record(), pytest.raises(RuntimeError, match=r"CrossAttention\(.*use it under no_record\(\)"):
            use()
        with torch.inference_mode():
            use()


def test_another_layers_memory():
    layer = make()
    with no_record():
        with pytest.raises(ValueError, match=r"CrossAttention\(.*given a memory that another layer projected"):
            layer(MEMORY, make().project(MEMORY))
        layer(MEMORY, layer.project(MEMORY))


@pytest.mark.parametrize("shape", [(3, 1, 12), (0, 1, 12), (1, 1, 12), (1, 12), (2, 1, 11)])
def test_another_batch(shape):
    layer = make()
    message = rf"given x \({', '.join(map(str, shape))}\) and a projected memory of 2 examples, expected \(B, T, 12\)"
    with no_record(), pytest.raises(ShapeError, match=message):
        layer(torch.zeros(shape, dtype=torch.float64), layer.project(MEMORY))


@pytest.mark.parametrize("shape", [(5, 12), (2, 5, 11)])
def test_memories_that_do_not_fit(shape):
    with no_record(), pytest.raises(ShapeError, match=r"given memory .*, expected \(B, T, 12\)"):
        make().project(torch.zeros(shape, dtype=torch.float64))
