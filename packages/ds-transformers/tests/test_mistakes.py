"""What somebody who comes from PyTorch gets wrong: one clear error each, where the mistake is made."""

import pytest
import torch
from ds_core import GELU, ShapeError, no_record
from ds_core.testing import check_layer
from ds_transformers import (
    AlibiPositions,
    FeedForward,
    GatedFeedForward,
    MultiheadAttention,
    SelfAttention,
    Seq2SeqConfig,
    Seq2SeqTransformer,
    TransformerEncoder,
    TransformerEncoderLayer,
    average_weights,
    greedy,
)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: FeedForward(4, 8, "gellu"), ValueError, "FeedForward: given activation='gellu', expected 'relu'"),
        (lambda: FeedForward(4, 8, GELU), TypeError, "FeedForward: .*GELU.*, which has no backward; expected .* built"),
        (lambda: GatedFeedForward(4, 8, "silu"), ValueError, "GatedFeedForward: given activation='silu'"),
        (
            lambda: SelfAttention(8, 4, rotary=True),
            TypeError,
            r"given rotary=True, expected RotaryPositions\(head_dim\)",
        ),
        (lambda: SelfAttention(8, 4, alibi=True), TypeError, r"given alibi=True, expected AlibiPositions\(num_heads\)"),
        (lambda: SelfAttention(8, 4, alibi=AlibiPositions(8)), ValueError, "alibi for 8 heads and num_heads=4"),
        (lambda: average_weights("w0.safetensors"), TypeError, "given the one path w0.safetensors, expected several"),
    ],
)
def test_when_something_is_built(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_a_mask_in_the_place_of_the_cache():
    layer = SelfAttention(8, 4, causal=True)
    with no_record(), pytest.raises(TypeError, match="given a Tensor as cache, expected a KeyValueCache; masks are"):
        layer(torch.zeros(2, 3, 8), torch.zeros(3, 3))


def test_one_sentence_without_a_batch():
    model = Seq2SeqTransformer(Seq2SeqConfig(9, 9, 8, 2, 8, 1, 1))
    with pytest.raises(ShapeError, match=r"given source \(4,\), expected \(B, S\)"), no_record():
        model.start(torch.ones(4, dtype=torch.int64), 1)
    assert len(greedy(model, torch.ones(1, 4, dtype=torch.int64), begin=1, end=2, max_length=3)) == 1


def test_names_of_activations():
    check_layer(FeedForward(4, 6, "gelu"), torch.randn(2, 3, 4))
    check_layer(GatedFeedForward(4, 6, torch.nn.functional.silu), torch.randn(2, 3, 4))


def test_the_twins_own_machinery_is_accepted():
    layer = TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True)
    x = torch.randn(2, 3, 8)
    with no_record():
        plain = TransformerEncoder(layer, 2)(x)
        assert torch.equal(TransformerEncoder(layer, 2, enable_nested_tensor=False, mask_check=False)(x), plain)


@pytest.mark.parametrize("implementation", ["vectorized", "tiled"])
def test_shapes_on_the_meta_device(implementation):
    x = torch.empty(2, 5, 16, device="meta")
    with no_record():
        assert SelfAttention(16, 4, device="meta", implementation=implementation)(x).shape == (2, 5, 16)
        layer = MultiheadAttention(16, 4, batch_first=True, device="meta", implementation=implementation)
        assert layer(x, x, x)[0].shape == (2, 5, 16)
