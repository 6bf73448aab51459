"""A small MiniGPT for the tests of fine-tuning, and a step of training."""

import torch
from ds_core import TokenCrossEntropy, record
from ds_zoo import MiniGPT, MiniGPTConfig

TOKENS = (torch.arange(15) * 7 % 11).view(3, 5)
TARGETS = (torch.arange(15) * 5 % 11).view(3, 5)


def tiny_model(**options):
    """Weights of ordinary size, so that every term of a gradient is felt; float64."""
    config = MiniGPTConfig(11, 6, num_layers=2, num_heads=2, embed_dim=8, **{"dropout": 0.0, **options})
    generator = torch.Generator().manual_seed(0)
    model = MiniGPT(config, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.2)
    return model


def loss_of(model):
    """The loss of one batch; the gradients are left in the model."""
    criterion = TokenCrossEntropy()
    with record():
        loss = criterion(model(TOKENS), TARGETS)
        model.backward(criterion.backward())
    return float(loss)


def trained_names(model):
    return [name for name, tensor in model.named_parameters() if tensor.requires_grad]
