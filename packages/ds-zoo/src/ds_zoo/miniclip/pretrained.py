"""A MiniCLIP in the folder format of Hugging Face's transformers. Theory: docs/miniclip/pretrained.md."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch
from ds_core.training.pretrained_files import read_config_as, read_folder, write_folder
from ds_core.training.pretrained_weights import Key, by_their_names, load_model
from torch import Tensor

from ds_zoo.finetuning.lora import folded_state
from ds_zoo.miniclip.config import MiniCLIPConfig, from_hugging_face, to_hugging_face

M = TypeVar("M")

# Our name of each parameter, or what it begins with, and transformers'
_OUTSIDE = {
    "text.tokens.weight": "text_model.embeddings.token_embedding.weight",
    "text.positions.weight": "text_model.embeddings.position_embedding.weight",
    "text.norm": "text_model.final_layer_norm",
    "text.projection.weight": "text_projection.weight",
    "vision.image_tokens.class_token": "vision_model.embeddings.class_embedding",
    "vision.image_tokens.patches.weight": "vision_model.embeddings.patch_embedding.weight",
    "vision.image_tokens.positions": "vision_model.embeddings.position_embedding.weight",
    "vision.pre_norm": "vision_model.pre_layrnorm",  # spelt so
    "vision.post_norm": "vision_model.post_layernorm",
    "vision.projection.weight": "visual_projection.weight",
    "similarity.logit_scale": "logit_scale",
}
_IN_BLOCK = {
    "norm1": "layer_norm1",
    "attention.out_proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "feed_forward.linear1": "mlp.fc1",
    "feed_forward.linear2": "mlp.fc2",
}
_QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")  # attention.in_proj holds the three one below the other
# Buffers that old files hold: 0, 1, 2 and so on
_NO_WEIGHTS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def keys_of(names: Iterable[str]) -> dict[str, Key]:
    """Our name of each parameter -> what it is in the file."""
    return {name: _key(name) for name in names}


def _key(name: str) -> Key:
    for ours, theirs in _OUTSIDE.items():
        if name == ours or name.startswith(f"{ours}."):
            return Key(theirs + name.removeprefix(ours))
    tower, _, number, inside = name.split(".", 3)  # "text", "blocks", "0", "attention.out_proj.weight"
    layer = f"{tower}_model.encoder.layers.{number}"
    if inside.startswith("attention.in_proj_"):
        kind = inside.removeprefix("attention.in_proj_")
        return Key(tuple(f"{layer}.self_attn.{part}.{kind}" for part in _QUERY_KEY_VALUE))  # (1)
    part, _, kind = inside.rpartition(".")
    return Key(f"{layer}.{_IN_BLOCK[part]}.{kind}")


def read_clip_config(folder: str | Path) -> MiniCLIPConfig:
    """`from_hugging_face` of a folder.

    Raises:
        CheckpointError: config.json is missing or damaged, or of a model that MiniCLIP is not.
    """
    return read_config_as(folder, from_hugging_face)


def save_miniclip(folder: str | Path, config: MiniCLIPConfig, model: Any) -> None:
    """Write the model's weights, updates of LoRA folded in, and its config.json.

    Raises:
        WriteError: the folder cannot be written.
    """
    state = folded_state(model)
    write_folder(folder, to_hugging_face(config), by_their_names(state, keys_of(state)))


def load_miniclip(
    folder: str | Path,
    build: Callable[[MiniCLIPConfig], M],
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> M:
    """The model of a folder; `build` makes it of its sizes, without weights.

    Raises:
        CheckpointError: a file is missing or damaged, or holds a model that MiniCLIP cannot compute.
    """
    config = read_clip_config(folder)
    blocks = config.text.num_layers + config.vision.num_layers
    tensors: dict[str, Tensor] = {name: t for name, t in read_folder(folder).items() if name not in _NO_WEIGHTS}
    return load_model(folder, lambda: build(config), blocks, tensors, keys_of, device=device, dtype=dtype)
