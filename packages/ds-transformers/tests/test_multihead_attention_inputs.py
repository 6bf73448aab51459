"""What padding does to MultiheadAttention, and what it says where it cannot be built or called so."""

import pytest
import torch
from ds_core import ShapeError, no_record
from ds_transformers import MultiheadAttention


def inputs_that_fit():
    return torch.randn(4, 2, 6), torch.randn(5, 2, 6), torch.randn(5, 2, 6)


def test_padding_hides_what_stands_there():
    layer = MultiheadAttention(6, 2, batch_first=True)
    query, key, value = (tensor.transpose(0, 1) for tensor in inputs_that_fit())
    padding = torch.tensor([[False, False, False, True, True]] * 2)
    with no_record():
        y, weights = layer(query, key, value, key_padding_mask=padding)
        short, _ = layer(query, key[:, :3], value[:, :3])
    torch.testing.assert_close(y, short)
    assert (weights[:, :, 3:] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed_dim": 6, "num_heads": 4}, "embed_dim=6 and num_heads=4"),
        ({"embed_dim": 6, "num_heads": 0}, "num_heads=0"),
        ({"embed_dim": 6, "num_heads": 2, "dropout": -0.1}, "dropout=-0.1"),
        (
            {"embed_dim": 6, "num_heads": 2, "implementation": "fast"},
            "'fast', expected one of vectorized, tiled, loops",
        ),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiheadAttention(**arguments)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 2, 5), (5, 2, 6), (5, 2, 6)), r"query \(4, 2, 5\)"),
        (((4, 2, 6), (5, 3, 6), (5, 3, 6)), r"key \(5, 3, 6\)"),
        (((4, 2, 6), (5, 2, 6), (4, 2, 6)), r"value \(4, 2, 6\)"),
        (((4, 6), (5, 2, 6), (5, 2, 6)), r"query \(4, 6\)"),
        (((4, 6), (5, 6), (4, 6)), r"value \(4, 6\)"),
        (((6,), (6,), (6,)), r"query \(6,\).*expected \(T, B, width\) or \(T, width\) with widths \(6, 6, 6\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ShapeError, match=message):
        MultiheadAttention(6, 2)(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attn_mask": torch.zeros(5, 4)}, r"attn_mask \(5, 4\), expected \(4, 5\) or \(4, 4, 5\)"),
        ({"attn_mask": torch.zeros(3, 4, 5)}, r"attn_mask \(3, 4, 5\)"),
        ({"attn_mask": torch.zeros(4, 5, dtype=torch.int64)}, "attn_mask of torch.int64, expected torch.bool"),
        ({"key_padding_mask": torch.zeros(5, 2)}, r"key_padding_mask \(5, 2\), expected \(2, 5\)"),
        ({"key_padding_mask": torch.zeros(2, 5, dtype=torch.uint8)}, "key_padding_mask of torch.uint8"),
    ],
)
def test_masks_that_do_not_fit_are_named(options, message):
    with pytest.raises(ShapeError, match=message):
        MultiheadAttention(6, 2)(*inputs_that_fit(), **options)


def test_is_causal_needs_a_mask_as_in_torch():
    inputs = inputs_that_fit()
    for kind in (MultiheadAttention, torch.nn.MultiheadAttention):
        with pytest.raises(RuntimeError, match="is_causal"):
            kind(6, 2)(*inputs, is_causal=True)
