"""MiniGPT in the folder format of Hugging Face's transformers: config.json and model.safetensors.

Theory (why some weights are transposed): docs/pretrained.md.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from ds_core import CheckpointError
from ds_core.atomic_files import write_atomically
from ds_core.errors import WriteError, one_line
from ds_core.training.weights_file import weights_bytes
from torch import Tensor

from ds_zoo.minigpt.config import MiniGPTConfig, from_hugging_face, to_hugging_face

# Our name and theirs, for each linear layer and normalisation of a block
_IN_BLOCK = {
    "norm1": "ln_1",
    "attention.in_proj": "attn.c_attn",
    "attention.out_proj": "attn.c_proj",
    "norm2": "ln_2",
    "feed_forward.linear1": "mlp.c_fc",
    "feed_forward.linear2": "mlp.c_proj",
}


def key_map(config: MiniGPTConfig) -> dict[str, tuple[str, bool]]:
    """Our name of every parameter -> transformers' name, and whether the matrix stands transposed there.

    GPT-2's `Conv1D` computes y = x W + b with W (in, out), where `Linear` has W (out, in).
    """
    kinds = ("weight", "bias")
    names = {"tokens.weight": ("wte.weight", False), "positions.weight": ("wpe.weight", False)}
    for i in range(config.num_layers):
        for ours, theirs in _IN_BLOCK.items():
            for kind in kinds:
                joint = "_" if ours == "attention.in_proj" else "."
                transposed = kind == "weight" and "norm" not in ours
                names[f"blocks.{i}.{ours}{joint}{kind}"] = (f"h.{i}.{theirs}.{kind}", transposed)
    names |= {f"norm.{kind}": (f"ln_f.{kind}", False) for kind in kinds}
    return {ours: (f"transformer.{theirs}", transposed) for ours, (theirs, transposed) in names.items()}


def save_folder(folder: str | Path, config: MiniGPTConfig, state: Mapping[str, Tensor]) -> None:
    """Write `state` (our names) for transformers; a model without biases gets biases of zero.

    Each file appears whole or not at all, the weights first, with a checksum of every tensor in their metadata.

    Raises:
        WriteError: the folder cannot be made, or a file in it not be written.
    """
    folder = Path(folder)
    tensors = {}
    for ours, (theirs, transposed) in key_map(config).items():
        if ours in state:
            tensor = state[ours].detach().cpu()
            tensors[theirs] = (tensor.t() if transposed else tensor).contiguous()
    for theirs, _ in key_map(config).values():
        if theirs not in tensors:
            weight = tensors[theirs.removesuffix("bias") + "weight"]
            tensors[theirs] = weight.new_zeros(weight.shape[-1])
    fields = to_hugging_face(config) | {"dtype": str(state["tokens.weight"].dtype).removeprefix("torch.")}
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    metadata = {"format": "pt", "crc32": json.dumps(checksums)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write a model into {folder}: {error.strerror or one_line(error)}") from error
    write_atomically(folder / "model.safetensors", weights_bytes(tensors, metadata))
    write_atomically(folder / "config.json", (json.dumps(fields, indent=2) + "\n").encode())


def load_folder(folder: str | Path, dropout: float | None = None) -> tuple[MiniGPTConfig, dict[str, Tensor]]:
    """Read a GPT-2 that transformers or `save_folder` wrote, in one file or in shards -> config, state (our names).

    Raises:
        CheckpointError: a missing or damaged file, weights that are not finite, or a model that MiniGPT is not.
    """
    folder = Path(folder)
    fields = _read_json(folder / "config.json")
    try:
        config = from_hugging_face(fields, dropout)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    tensors = _read_tensors(folder)
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    state = {}
    for ours, (theirs, transposed) in key_map(config).items():
        name = prefix + theirs.removeprefix("transformer.")
        if name not in tensors:
            raise CheckpointError(f"{folder}: the weights lack {name}, so they are not those of its config.json")
        tensor = tensors[name]
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{folder}: {name} holds numbers that are infinite or NaN")
        if not config.bias and ours.endswith("bias"):
            if torch.any(tensor != 0):
                raise CheckpointError(f"{folder}: config.json says there are no biases, but {name} is not zero")
            continue
        state[ours] = tensor.t() if transposed else tensor  # (1)
    _check_head(folder, tensors, prefix + "wte.weight")
    _check_others(folder, tensors, {theirs.removeprefix("transformer.") for theirs, _ in key_map(config).values()})
    return config, state


def _check_others(folder: Path, tensors: Mapping[str, Tensor], read: set[str]) -> None:
    """Refuse weights beyond those `read`; old files hold the causal mask too, which is no weight."""
    others = sorted(
        name
        for name in tensors
        if name.removeprefix("transformer.") not in {*read, "lm_head.weight"}
        and not name.endswith((".attn.bias", ".attn.masked_bias"))
    )
    if others:
        listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise CheckpointError(f"{folder}: the weights hold {listed}, which its config.json says nothing of")


def _check_head(folder: Path, tensors: Mapping[str, Tensor], embedding: str) -> None:
    head = tensors.get("lm_head.weight")
    if head is not None and not torch.equal(head, tensors[embedding]):
        raise CheckpointError(f"{folder}: lm_head.weight differs from {embedding}; MiniGPT's head is the embedding")


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors, or of the shards that its index lists."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if not (folder / names[0]).exists():
        if index.exists():
            names = _shards(index)
        elif (folder / "pytorch_model.bin").exists():
            raise CheckpointError(
                f"{folder} holds pytorch_model.bin, a pickle, which can run any code when it is read: "
                "save it anew with transformers' save_pretrained, which writes model.safetensors"
            )
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            tensors |= _read_file(folder / name)
        except FileNotFoundError as error:
            raise CheckpointError(f"no weights: {folder / name} does not exist") from error
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{folder / name} is not a whole safetensors file: {error}") from error
    return tensors


def _shards(index: Path) -> list[str]:
    """The files that an index lists."""
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} is damaged: expected a weight_map from the name of each tensor to its file")
    return sorted(set(weight_map.values()))


def _read_file(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, against their checksums where it has them: transformers writes none."""
    with safetensors.safe_open(path, framework="pt", device="cpu") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    try:
        checksums = dict(json.loads(metadata.get("crc32", "{}")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its checksums cannot be read") from error
    for name, tensor in tensors.items():
        if name in checksums and checksums[name] != _checksum(tensor):
            raise CheckpointError(f"{path} is damaged: {name} does not have the checksum it was written with")
    return tensors


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(np.asarray(tensor.reshape(-1).view(torch.uint8)).data)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"no model in {path.parent}: {path.name} does not exist") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"cannot read {path}: expected a JSON object")
    return fields
