"""MiniGPT in the folder format of Hugging Face's transformers: config.json and model.safetensors.

Theory (why some weights are transposed): docs/minigpt/pretrained.md.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from ds_core import CheckpointError
from ds_core.training.pretrained_files import read_config_as, read_folder, write_folder
from ds_core.training.pretrained_weights import Key, by_their_names
from torch import Tensor

from ds_zoo.minigpt.config import MiniGPTConfig, from_hugging_face, to_hugging_face

_PREFIX = "transformer."
_HEAD = "lm_head.weight"

# Our name and theirs, for each linear layer and normalisation of a block
_IN_BLOCK = {
    "norm1": "ln_1",
    "attention.in_proj": "attn.c_attn",
    "attention.out_proj": "attn.c_proj",
    "norm2": "ln_2",
    "feed_forward.linear1": "mlp.c_fc",
    "feed_forward.linear2": "mlp.c_proj",
}


def key_map(config: MiniGPTConfig) -> dict[str, Key]:
    """Our name of every parameter -> transformers' name, and whether the matrix stands transposed there.

    GPT-2's `Conv1D` computes y = x W + b with W (in, out), where `Linear` has W (out, in).
    """
    kinds = ("weight", "bias")
    keys = {"tokens.weight": Key(f"{_PREFIX}wte.weight"), "positions.weight": Key(f"{_PREFIX}wpe.weight")}
    for i in range(config.num_layers):
        for ours, theirs in _IN_BLOCK.items():
            for kind in kinds:
                joint = "_" if ours == "attention.in_proj" else "."
                transposed = kind == "weight" and "norm" not in ours
                keys[f"blocks.{i}.{ours}{joint}{kind}"] = Key(f"{_PREFIX}h.{i}.{theirs}.{kind}", transposed)  # (1)
    return keys | {f"norm.{kind}": Key(f"{_PREFIX}ln_f.{kind}") for kind in kinds}


def save_folder(folder: str | Path, config: MiniGPTConfig, state: Mapping[str, Tensor]) -> None:
    """Write `state` (our names) for transformers; a model without biases gets biases of zero.

    Each file appears whole or not at all, the weights first, with a checksum of every tensor in their metadata.

    Raises:
        WriteError: the folder cannot be made, or a file in it not be written.
    """
    keys = key_map(config)
    tensors = by_their_names(state, keys)
    for name in (name for key in keys.values() for name in key.names):
        if name not in tensors:
            weight = tensors[name.removesuffix("bias") + "weight"]
            tensors[name] = weight.new_zeros(weight.shape[-1])
    write_folder(folder, to_hugging_face(config), tensors)


def read_gpt2_config(folder: str | Path, dropout: float | None = None) -> MiniGPTConfig:
    """`from_hugging_face` of a folder.

    Raises:
        CheckpointError: config.json is missing or damaged, or of a model that MiniGPT is not.
    """
    return read_config_as(folder, lambda fields: from_hugging_face(fields, dropout))


def read_gpt2_tensors(folder: str | Path, config: MiniGPTConfig) -> dict[str, Tensor]:
    """The weights of a folder by the names that `key_map` has for them, and nothing else that GPT-2's files hold.

    Raises:
        CheckpointError: a file is missing or damaged, the head is not the embedding, or there are biases although
            config.json says that there are none.
    """
    tensors = {
        name if name.startswith(_PREFIX) or name == _HEAD else _PREFIX + name: tensor
        for name, tensor in read_folder(folder).items()
        if not name.endswith((".attn.bias", ".attn.masked_bias"))  # the causal mask that old files hold is no weight
    }
    head, embedding = tensors.pop(_HEAD, None), f"{_PREFIX}wte.weight"
    if head is not None and embedding in tensors and not torch.equal(head, tensors[embedding]):
        raise CheckpointError(f"{folder}: {_HEAD} differs from {embedding}; MiniGPT's head is the embedding")
    if not config.bias:
        for name in [name for name in tensors if name.endswith(".bias")]:
            if torch.any(tensors.pop(name) != 0):
                raise CheckpointError(f"{folder}: config.json says there are no biases, but {name} is not zero")
    return tensors
