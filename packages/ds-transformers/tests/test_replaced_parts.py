"""Parts of a block replaced by others, as in an ablation: no gradient is written over, and all stay right."""

import pytest
import torch
from ds_core import Dropout, Identity, Linear, Residual, Sequential, Tanh, record
from ds_core.testing import check_layer
from ds_transformers import PreNormBlock, TransformerDecoderLayer, TransformerEncoderLayer

ORDERS = pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
NETWORK = ("linear1", "activation", "linear2")


def changed(layer, names, part=Identity):
    for name in names:
        setattr(layer, name, part())
    return layer


@ORDERS
@pytest.mark.parametrize(
    "names",
    [
        ("linear2",),
        ("linear1", "linear2"),
        NETWORK,
        (*NETWORK, "norm2"),
        (*NETWORK, "dropout2", "norm2"),
        (*NETWORK, "norm1", "norm2"),
    ],
)
def test_an_encoder_layer(names, norm_first):
    layer = TransformerEncoderLayer(6, 2, 6, 0.0, batch_first=True, norm_first=norm_first)
    check_layer(Residual(changed(layer, names)), torch.randn(2, 3, 6))


@ORDERS
@pytest.mark.parametrize("names", [("linear2",), (*NETWORK, "norm3"), (*NETWORK, "norm1", "norm2", "norm3")])
def test_a_decoder_layer(names, norm_first):
    layer = TransformerDecoderLayer(6, 2, 6, 0.0, batch_first=True, norm_first=norm_first)
    check_layer(changed(layer, names), torch.randn(2, 3, 6), torch.randn(2, 4, 6))


@ORDERS
@pytest.mark.parametrize("name", ["dropout1", "dropout2", "linear2"])
def test_a_part_that_keeps_its_output(name, norm_first):
    layer = TransformerEncoderLayer(6, 2, 6, 0.0, batch_first=True, norm_first=norm_first)
    check_layer(changed(layer, [name], Tanh), torch.randn(2, 3, 6))


@ORDERS
@pytest.mark.parametrize("name", ["dropout1", "dropout2", "dropout3", "linear2"])
def test_a_part_of_a_decoder_layer_that_keeps_its_output(name, norm_first):
    layer = TransformerDecoderLayer(6, 2, 6, 0.0, batch_first=True, norm_first=norm_first)
    check_layer(changed(layer, [name], Tanh), torch.randn(2, 3, 6), torch.randn(2, 4, 6))


def test_a_given_gradient_stays_as_it_was():
    """The sum of a residual connection reads the gradient after the layer inside it has run."""
    layer = Residual(changed(TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True), (*NETWORK, "norm2")))
    x, dy = torch.randn(2, 2, 3, 8)
    kept = dy.clone()
    with record():
        layer(x)
        layer.backward(dy)
    assert torch.equal(dy, kept)


@pytest.mark.parametrize("part", [Identity, lambda: Dropout(0.5).eval(), lambda: Sequential(Identity(), Identity())])
def test_a_block_of_parts_that_hand_their_gradient_on(part):
    block = PreNormBlock(Linear(6, 6), part(), norm1=part(), norm2=part())
    check_layer(Residual(block), torch.randn(2, 3, 6))
    x, dy = torch.randn(2, 2, 3, 6)
    block = Residual(PreNormBlock(part(), part(), norm1=part(), norm2=part()))
    with record():
        y = block(x)
        dx = block.backward(dy)
    assert torch.equal(y, 5 * x)  # x + (2 x + 2 x)
    assert torch.equal(dx, 5 * dy)
