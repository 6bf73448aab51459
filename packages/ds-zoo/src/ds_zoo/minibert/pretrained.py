"""MiniBERT in the folder format of Hugging Face's transformers: config.json and model.safetensors.

Theory (which tensor is which, and which are left alone): docs/minibert/pretrained.md.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from ds_core import CheckpointError
from ds_core.training.pretrained_files import read_config_as, read_folder, write_folder
from ds_core.training.pretrained_labels import Labels
from ds_core.training.pretrained_weights import Key, by_their_names, load_model, without_weights
from torch import Tensor

from ds_zoo.finetuning.lora import folded_state
from ds_zoo.minibert.config import MiniBERTConfig, from_hugging_face, to_hugging_face
from ds_zoo.minibert.heads import (
    MiniBERTForMaskedLM,
    MiniBERTForPreTraining,
    MiniBERTForSequenceClassification,
    MiniBERTForTokenClassification,
)
from ds_zoo.minibert.model import MiniBERT, draw_initial

ARCHITECTURES: dict[str, Any] = {
    "BertModel": MiniBERT,
    **{
        kind.architecture: kind
        for kind in (
            MiniBERTForMaskedLM,
            MiniBERTForPreTraining,
            MiniBERTForSequenceClassification,
            MiniBERTForTokenClassification,
        )
    },
}

# Our name and theirs, before ".weight" and ".bias"; in a model with a head the first two tables stand below "bert."
_BODY = {
    "embeddings.tokens": "embeddings.word_embeddings",
    "embeddings.positions": "embeddings.position_embeddings",
    "embeddings.token_types": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "pooler.dense": "pooler.dense",
}
_BLOCK = {
    "attention.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "feed_forward.linear1": "intermediate.dense",
    "feed_forward.linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
_HEAD = {
    "transform.dense": "cls.predictions.transform.dense",
    "transform.norm": "cls.predictions.transform.LayerNorm",
    "bias": "cls.predictions.bias",
    "seq_relationship": "cls.seq_relationship",
    "classifier": "classifier",
}
# What files may hold beyond the model: other heads' weights, and the pooler of a model that has none
_OTHERS = ("bert.pooler.", "pooler.", "cls.", "classifier.")


def keys_of(names: Iterable[str]) -> dict[str, Key]:
    """Our name of each tensor -> what it is in transformers' files."""
    return {name: _key(name) for name in names}


def _key(name: str) -> Key:
    prefix = "bert." if name.startswith("bert.") else ""
    rest = name.removeprefix(prefix)
    if rest.startswith("blocks."):
        _, number, rest = rest.split(".", 2)
        prefix += f"encoder.layer.{number}."
        if rest.startswith("attention.in_proj_"):
            kind = rest.removeprefix("attention.in_proj_")  # weight or bias
            # in_proj_weight = [W_query; W_key; W_value], one below the other                                   (1)
            return Key(tuple(f"{prefix}attention.self.{part}.{kind}" for part in ("query", "key", "value")))
    for table in (_BODY, _BLOCK, _HEAD):
        for ours, theirs in table.items():
            if rest == ours or rest.startswith(f"{ours}."):
                return Key(prefix + theirs + rest.removeprefix(ours))
    raise KeyError(name)


def save_bert(folder: str | Path, model: Any, architecture: str) -> None:
    """Write a `MiniBERT`, or one with a head, as transformers reads it; LoRA's updates are added to the weights.

    Raises:
        WriteError: the folder cannot be made, or a file in it not be written.
    """
    state = folded_state(model)
    write_folder(folder, config_fields(model, architecture), by_their_names(state, keys_of(state)))


def config_fields(model: Any, architecture: str) -> dict[str, Any]:
    """The fields of the model's config.json."""
    labels = model.labels.fields() if hasattr(model, "labels") else {}
    return {"architectures": [architecture], **to_hugging_face(model.config), **labels}


def load_bert(
    folder: str | Path,
    architecture: str | None = None,
    num_labels: int | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Any:
    """Read the model of a folder; the arguments are those of `MiniBERT.from_pretrained`.

    Raises:
        CheckpointError: a file is missing or damaged, or holds a model that MiniBERT cannot compute.
    """
    config, own, labels = read_config_as(folder, _read_fields)
    architecture = own if architecture is None else architecture
    if architecture not in ARCHITECTURES:
        raise ValueError(f"MiniBERT: given architecture={architecture!r}, expected one of {', '.join(ARCHITECTURES)}")
    if num_labels is not None and "Classification" not in architecture:
        raise ValueError(
            f"MiniBERT: given num_labels={num_labels!r} for a {architecture}, which has no classes: expected it beside "
            'architecture="BertForSequenceClassification" or "BertForTokenClassification"'
        )
    replaced = num_labels is not None and num_labels != len(labels.names)
    if num_labels is not None and replaced:
        labels = Labels.numbered(num_labels, labels.problem_type)
    implementation = options.pop("implementation", None)

    tensors = _with_their_names(read_folder(folder), has_prefix=ARCHITECTURES[architecture] is not MiniBERT)
    # A body may have been saved without its pooler; one that is asked for anew gets a pooler that is drawn
    bare = architecture == own == "BertModel" and not any(name.startswith("pooler.") for name in tensors)
    parts = {"pooler": False} if bare else {}

    def build() -> Any:
        return _build(config, architecture, labels, implementation=implementation, device="meta", **parts)

    expected = without_weights(folder, build, config.num_layers, tensors).state_dict()
    if replaced:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}
    if architecture != own or replaced:
        anew = _OTHERS if architecture != own else ("classifier.",)
        tensors |= _drawn_anew(expected, tensors, config, generator, anew)
    tensors = _without_others(folder, tensors, expected)
    return load_model(folder, build, config.num_layers, tensors, keys_of, **options)


def new_bert(folder: str | Path) -> Any:
    """The model that the config.json of a folder describes, its weights drawn anew.

    Raises:
        CheckpointError: config.json is missing or damaged, or of a model that MiniBERT cannot compute.
    """
    return _build(*read_config_as(folder, _read_fields))


def _build(config: MiniBERTConfig, architecture: str, labels: Labels, **options: Any) -> Any:
    given: dict[str, Any] = {"labels": labels} if "Classification" in architecture else {}
    return ARCHITECTURES[architecture](config, **options, **given)


def _read_fields(given: Mapping[str, Any]) -> tuple[MiniBERTConfig, str, Labels]:
    architectures = given.get("architectures") or ["BertModel"]
    if not isinstance(architectures, list) or architectures[0] not in ARCHITECTURES:
        raise ValueError(f"architectures is {architectures!r:.80}, expected one of {', '.join(ARCHITECTURES)}")
    return from_hugging_face(given), architectures[0], Labels.from_config(given)


def _with_their_names(tensors: Mapping[str, Tensor], has_prefix: bool) -> dict[str, Tensor]:
    """The tensors by today's names: with "bert." before the body's or without it, and LayerNorm's not as in 2018."""
    renamed = {}
    for name, tensor in tensors.items():
        if name.endswith("position_ids"):  # 0, 1, 2, ..., which old files hold
            continue
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        bare = name.removeprefix("bert.")
        if bare.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{bare}" if has_prefix else bare
        renamed[name] = tensor
    return renamed


def _drawn_anew(
    expected: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    config: MiniBERTConfig,
    generator: torch.Generator | None,
    anew: tuple[str, ...],
) -> dict[str, Tensor]:
    """Initial values of what the folder has no weights for, by their names: heads and pooler, never what is below.

    Args:
        expected: the model's tensors, by our names.
        anew: how the names begin, in the file, of what may be missing.
    """
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)
    missing = {}
    for ours, wanted in expected.items():
        name = _key(ours).names[0]
        if name.startswith(anew) and name not in tensors:
            missing[name] = torch.empty(wanted.shape, dtype=dtype)
            with torch.no_grad():
                draw_initial(ours, missing[name], config, generator)
    return missing


def _without_others(folder: str | Path, tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors without those of other heads; `names` are the model's, by ours.

    Raises:
        CheckpointError: the decoder is not the embedding of the tokens, or has another bias than its head.
    """
    tied = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    for name, of in tied.items():
        if name in tensors and of in tensors and not torch.equal(tensors[name], tensors[of]):
            raise CheckpointError(f"{folder}: {name} differs from {of}; MiniBERT's decoder is the embedding")
    wanted = {name for ours in names for name in _key(ours).names}
    return {name: tensor for name, tensor in tensors.items() if name in wanted or not name.startswith(_OTHERS)}
