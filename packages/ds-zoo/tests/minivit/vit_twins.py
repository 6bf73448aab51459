"""transformers' ViT beside ours: twins with the same random weights, and tensors compared in the file's key space."""

import tempfile
from dataclasses import fields

import safetensors.torch
import torch
import transformers
from ds_zoo import MiniViT, MiniViTConfig, MiniViTForImageClassification

_NAMES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

# Widths, depths, heads, hidden widths; sizes; classes, problem types: odd where they may be
CONFIGS = {
    "smallest": {"sizes": (4, 1, 1, 5), "image_size": 2, "patch_size": 2, "num_channels": 1, "num_labels": 2},
    "no-qkv-bias": {"sizes": (12, 3, 3, 20), "image_size": 13, "patch_size": 4, "qkv_bias": False, "num_labels": 3},
    "one-label": {"sizes": (20, 2, 5, 7), "image_size": 9, "patch_size": 3, "layer_norm_eps": 1e-5, "num_labels": 1},
    "seven-layers": {"sizes": (8, 7, 2, 33), "image_size": 8, "patch_size": 2, "num_labels": 7},
    "pixels": {"sizes": (6, 2, 3, 9), "image_size": 3, "patch_size": 1, "num_channels": 4, "num_labels": 3},
    "tiled": {"sizes": (16, 2, 4, 40), "image_size": 24, "patch_size": 2, "num_labels": 5},  # 145 tokens
}


def config_of(name, **changes):
    given = {**CONFIGS[name], **changes}
    sizes = dict(zip(_NAMES, given.pop("sizes"), strict=True))
    return transformers.ViTConfig(**sizes, **given)


def theirs_of(kind, config, seed=0, **options):
    """transformers' model in float64 and evaluation mode, with weights of ordinary size instead of 0.02."""
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(config, **options).double().eval()
    for tensor in model.parameters():
        tensor.data += 0.2 * torch.randn_like(tensor)
    return model


def ours_of(theirs, **options):
    """Ours with the same weights, through a folder."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return MiniViT.from_pretrained(folder, **options)


def images_of(config, batch=3, size=None, seed=1):
    height, width = size or (config.image_size, config.image_size)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, config.num_channels, height, width, generator=generator, dtype=torch.float64)


def named(output):
    """The tensors of an output of ours, by name."""
    return {field.name: getattr(output, field.name) for field in fields(output)}


def file_of(model, folder):
    """What `save_pretrained` writes of a model."""
    model.save_pretrained(folder)
    return safetensors.torch.load_file(f"{folder}/model.safetensors")


def gradients_of(model, folder):
    """The gradients by the file's names: written in place of the parameters, and the parameters put back."""
    kept = [tensor.data for tensor in model.parameters()]
    for tensor in model.parameters():
        tensor.data = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
    found = file_of(model, folder)
    for tensor, data in zip(model.parameters(), kept, strict=True):
        tensor.data = data
    return found


def assert_equal_gradients(found, expected, tolerance=1e-8):
    """To `tolerance` of each tensor's largest number; of tiny ones, to 1e-5 of the model's."""
    assert found.keys() == expected.keys()
    largest = max(float(tensor.abs().max()) for tensor in expected.values())
    assert largest > 0
    for name, tensor in expected.items():
        scale = max(float(tensor.abs().max()), 1e-5 * largest)
        difference = float((found[name] - tensor).abs().max())
        assert difference <= tolerance * scale, f"{name}: {difference} beside {scale}"


def without_key_biases(tensors):
    """The gradient of a key's bias is rounding alone, of which Adam makes a step."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("key.bias")}


SMALL = MiniViTConfig(7, 3, num_channels=2, num_layers=2, num_heads=2, embed_dim=8, hidden_dim=9)


def small_classifier(labels=None, pooling="token"):
    """One of ours, without a twin, with weights of ordinary size."""
    generator = torch.Generator().manual_seed(0)
    model = MiniViTForImageClassification(SMALL, labels, pooling=pooling, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype), alpha=0.2)
    return model
