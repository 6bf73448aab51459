"""The names of a ResNet's tensors: ours, which are torchvision's, and transformers'. docs/resnet_pretrained.md."""

import re

# Our name and theirs; a number counts from 0 there
_STEM = {"conv1": "embedder.embedder.convolution", "bn1": "embedder.embedder.normalization"}
_IN_BLOCK = {"conv": "convolution", "bn": "normalization"}
_SHORTCUT = {"0": "shortcut.convolution", "1": "shortcut.normalization"}
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(?:(conv|bn)(\d+)|downsample\.([01]))\.(\w+)")


def transformers_key(name: str, prefix: str = "resnet.") -> str:
    """Our name of a tensor -> transformers', as in `layer1.0.conv2.weight` -> `resnet.encoder.stages.0.layers.0...`.

    Args:
        name: of a parameter or buffer of `ResNet` or `ResNetBackbone`.
        prefix: before what is not the head: "resnet." in a classifier, "" in a bare model.

    Raises:
        KeyError: a ResNet has no such tensor.
    """
    layer, _, tensor = name.rpartition(".")
    if layer == "fc":
        return f"classifier.1.{tensor}"
    if layer in _STEM:
        return f"{prefix}{_STEM[layer]}.{tensor}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise KeyError(f"a ResNet has no tensor {name}")
    stage, block, kind, number, shortcut, tensor = match.groups()
    part = f"layer.{int(number) - 1}.{_IN_BLOCK[kind]}" if kind else _SHORTCUT[shortcut]
    return f"{prefix}encoder.stages.{int(stage) - 1}.layers.{block}.{part}.{tensor}"
