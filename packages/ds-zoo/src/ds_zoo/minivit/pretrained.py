"""MiniViT in the folder format of Hugging Face's transformers. Theory: docs/minivit/pretrained.md."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ds_core.arguments import whole_number
from ds_core.training.pretrained_files import read_config_as, read_folder, write_folder
from ds_core.training.pretrained_labels import Labels
from ds_core.training.pretrained_weights import Key, by_their_names, load_model

from ds_zoo.finetuning.lora import folded_state
from ds_zoo.minivit.config import MiniViTConfig, from_hugging_face, to_hugging_face
from ds_zoo.minivit.heads import MiniViTForImageClassification
from ds_zoo.minivit.model import MiniViT
from ds_zoo.towers import attention_for

BODY, CLASSIFIER = "ViTModel", "ViTForImageClassification"
# A head that transformers does not have: `pooling="mean"`
MEAN_CLASSIFIER = "MiniViTForImageClassification"
_PREFIX = "vit."

# Our name and theirs, for what has no block
_OUTSIDE = {
    "tokens.class_token": Key("embeddings.cls_token", leading=2),
    "tokens.positions": Key("embeddings.position_embeddings", leading=1),
    "tokens.patches.weight": Key("embeddings.patch_embeddings.projection.weight"),
    "tokens.patches.bias": Key("embeddings.patch_embeddings.projection.bias"),
    "norm.weight": Key("layernorm.weight"),
    "norm.bias": Key("layernorm.bias"),
    "pooler.weight": Key("pooler.dense.weight"),
    "pooler.bias": Key("pooler.dense.bias"),
}
# For each linear layer and norm of a block; queries, keys and values are three layers there
_IN_BLOCK = {
    "norm1.": ("layernorm_before.",),
    "attention.in_proj_": tuple(f"attention.attention.{part}." for part in ("query", "key", "value")),
    "attention.out_proj.": ("attention.output.dense.",),
    "norm2.": ("layernorm_after.",),
    "feed_forward.linear1.": ("intermediate.dense.",),
    "feed_forward.linear2.": ("output.dense.",),
}


def key_of(ours: str) -> Key:
    """transformers' name of one of our tensors in a file: of a MiniViT, or with `vit.` or `classifier.` in front."""
    if ours.startswith("classifier."):
        return Key(ours)
    if ours.startswith(_PREFIX):
        key = key_of(ours.removeprefix(_PREFIX))
        return key._replace(name=tuple(_PREFIX + name for name in key.names))
    if ours in _OUTSIDE:
        return _OUTSIDE[ours]
    _, number, inside = ours.split(".", 2)  # blocks.N.norm1.weight
    front = next(front for front in _IN_BLOCK if inside.startswith(front))
    kind = inside.removeprefix(front)
    return Key(tuple(f"encoder.layer.{number}.{theirs}{kind}" for theirs in _IN_BLOCK[front]))


def keys_of(names: Iterable[str]) -> dict[str, Key]:
    """Our name of each tensor -> what it is in a file."""
    return {name: key_of(name) for name in names}


def save_folder(folder: str | Path, model: MiniViT | MiniViTForImageClassification) -> None:
    """What `save_pretrained` of both does; LoRA's updates are added to the weights.

    Raises:
        WriteError: the folder cannot be made, or a file in it not be written.
    """
    state = folded_state(model)
    write_folder(folder, config_fields(model), by_their_names(state, keys_of(state)))


def config_fields(model: MiniViT | MiniViTForImageClassification) -> dict[str, Any]:
    """The fields of the model's config.json."""
    if isinstance(model, MiniViT):
        of_head: dict[str, Any] = {"architectures": [BODY]}
    else:
        architecture = CLASSIFIER if model.pooling == "token" else MEAN_CLASSIFIER
        of_head = {"architectures": [architecture], **model.labels.fields()}
    return {**of_head, **to_hugging_face(model.config)}


def load_pretrained(
    folder: str | Path,
    *,
    num_labels: int | None = None,
    labels: Labels | None = None,
    pooling: str | None = None,
    image_size: int | None = None,
    dropout: float | None = None,
    attention_dropout: float | None = None,
    implementation: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> MiniViT | MiniViTForImageClassification:
    """Read a ViT that transformers or `save_pretrained` wrote.

    Args:
        num_labels: for fine-tuning: put a new classifier for so many classes on the body, whatever is on it.
        labels: in place of `num_labels`, the new classes by name.
        pooling: of the new classifier: "token" or "mean"; None: that of the folder's, or "token" if it has none.
        image_size: for fine-tuning: interpolate the positions, once, to those for images of this size.
        dropout, attention_dropout: in place of the rates in config.json.
        implementation: of the attention, see `MiniViT`.
        dtype: what the weights are cast to; by default they keep the file's dtype.
        generator: draws the new classifier.

    Returns:
        A `MiniViT` or a `MiniViTForImageClassification`, whichever `architectures` in config.json names, or the latter
        with a new classifier.

    Raises:
        CheckpointError: a file is missing or damaged, or holds a model that MiniViT cannot compute.
        ValueError: a `pooling` without a new classifier, or two numbers of classes.
    """
    new_labels = _new_labels(num_labels, labels)
    if pooling is not None and new_labels is None:
        raise ValueError("from_pretrained: pooling= is about a new classifier, which num_labels= or labels= asks for")
    config, architecture, own_labels = read_vit_config(folder)
    config = replace(
        config,
        dropout=config.dropout if dropout is None else dropout,
        attention_dropout=config.attention_dropout if attention_dropout is None else attention_dropout,
    )
    wanted = config if image_size is None else replace(config, image_size=image_size)
    tensors = read_folder(folder)
    if architecture is None:
        architecture = CLASSIFIER if "classifier.weight" in tensors else BODY
    if new_labels is not None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    options: dict[str, Any] = {"implementation": attention_for(wanted.num_tokens, implementation), "device": "meta"}

    def build() -> MiniViT | MiniViTForImageClassification:
        if architecture == BODY:
            return MiniViT(config, pooler=any(name.startswith("pooler.") for name in tensors), **options)
        own_pooling = "token" if architecture == CLASSIFIER else "mean"
        return MiniViTForImageClassification(config, own_labels, pooling=own_pooling, **options)

    model = load_model(folder, build, config.num_layers, tensors, keys_of, device=device, dtype=dtype)
    body = model if isinstance(model, MiniViT) else model.vit
    if wanted != config:
        body.tokens = body.tokens.for_images_of(wanted.image_size)
        model.config = body.config = wanted
    if new_labels is None:
        return model.eval()
    weight = body.tokens.positions
    if pooling is None:
        pooling = "token" if isinstance(model, MiniViT) else str(model.pooling)
    made = MiniViTForImageClassification(
        wanted,
        new_labels,
        pooling=pooling,
        vit=body,
        device=weight.device,
        dtype=weight.dtype,
        generator=generator,
    )
    return made.eval()


def _new_labels(num_labels: int | None, labels: Labels | None) -> Labels | None:
    if num_labels is None or labels is None:
        return (
            labels if num_labels is None else Labels.numbered(whole_number("from_pretrained", "num_labels", num_labels))
        )
    if len(labels.names) != num_labels:
        raise ValueError(f"from_pretrained: given num_labels={num_labels} and labels of {len(labels.names)} classes")
    return labels


def read_vit_config(folder: str | Path) -> tuple[MiniViTConfig, str | None, Labels]:
    """What config.json says: the sizes, the architecture if it is named, the classes.

    Raises:
        CheckpointError: it is missing or damaged, or of a model that MiniViT cannot compute.
    """
    return read_config_as(folder, _parse)


def _parse(given: Mapping[str, Any]) -> tuple[MiniViTConfig, str | None, Labels]:
    config = from_hugging_face(given)
    architecture = (given.get("architectures") or [None])[0]
    known = (BODY, CLASSIFIER, MEAN_CLASSIFIER)
    if architecture not in (None, *known):
        raise ValueError(f"architectures names {architecture!r}; MiniViT reads only {', '.join(known)}")
    return config, architecture, Labels.from_config(given)
