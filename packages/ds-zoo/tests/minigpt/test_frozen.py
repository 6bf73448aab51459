"""MiniGPT with frozen parts: the other gradients stay what they were, and nothing else is computed."""

import pytest
import torch
from ds_core import primitives_only, record
from ds_zoo import MiniGPT, MiniGPTConfig, TokenCrossEntropy


def gradients(trained):
    """By name, where only the parameters whose name `trained` accepts are trained; and backward's matrix products."""
    config = MiniGPTConfig(11, 6, num_layers=3, num_heads=2, embed_dim=8, dropout=0.0)
    model = MiniGPT(config, generator=torch.Generator().manual_seed(0)).double()
    for name, tensor in model.named_parameters():
        tensor.requires_grad_(trained(name))
    tokens = torch.arange(12).view(2, 6) % 11
    criterion = TokenCrossEntropy()
    with record():
        criterion(model(tokens), tokens.flip(0))
        dlogits = criterion.backward()
        with primitives_only() as ops:
            model.backward(dlogits)
    found = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}
    return found, ops["mm"]


EVERYTHING, PRODUCTS = gradients(lambda name: True)
# a head and, in each block, four linear layers, two products each; the attention's own are batched
assert PRODUCTS == 2 + 3 * 8


@pytest.mark.parametrize(
    ("trained", "products"),
    [
        ("blocks.2", 1 + 8),  # the head gives dx alone; below the block's own norm nothing is needed
        ("blocks.1", 1 + 4 + 8),  # of the block above only the way through
        ("blocks.2.attention", 1 + 2 + 4 - 1),
        ("blocks.2.feed_forward", 1 + 4 - 1),
        ("blocks.2.feed_forward.linear2", 1 + 1),
        ("norm.", 1),
        ("tokens", 1 + 1 + 3 * 4),
    ],
)
def test_only_what_is_needed_is_computed(trained, products):
    found, count = gradients(lambda name: name.startswith(trained))
    assert found.keys() == {name for name in EVERYTHING if name.startswith(trained)}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, EVERYTHING[name], rtol=1e-12, atol=1e-14)
    assert count == products
