"""MiniGPT in the folder format of Hugging Face's transformers: config.json and model.safetensors.

Theory (why some weights are transposed): docs/pretrained.md.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from ds_core.errors import CheckpointError
from ds_core.files import write_atomically
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
    for i in range(config.layers):
        for ours, theirs in _IN_BLOCK.items():
            for kind in kinds:
                joint = "_" if ours == "attention.in_proj" else "."
                transposed = kind == "weight" and "norm" not in ours
                names[f"blocks.{i}.{ours}{joint}{kind}"] = (f"h.{i}.{theirs}.{kind}", transposed)
    names |= {f"norm.{kind}": (f"ln_f.{kind}", False) for kind in kinds}
    return {ours: (f"transformer.{theirs}", transposed) for ours, (theirs, transposed) in names.items()}


def save_folder(folder: str | Path, config: MiniGPTConfig, state: Mapping[str, Tensor]) -> None:
    """Write `state` (our names) for transformers; a model without biases gets biases of zero.

    Each file appears whole or not at all, the weights first.
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
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "model.safetensors", safetensors.torch.save(tensors, {"format": "pt"}))
    write_atomically(folder / "config.json", (json.dumps(fields, indent=2) + "\n").encode())


def load_folder(folder: str | Path, dropout: float | None = None) -> tuple[MiniGPTConfig, dict[str, Tensor]]:
    """Read a GPT-2 that transformers or `save_folder` wrote, in one file or in shards -> config, state (our names).

    Raises:
        CheckpointError: a missing or damaged file, or a model that MiniGPT is not.
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
        if not config.bias and ours.endswith("bias"):
            if torch.any(tensor != 0):
                raise CheckpointError(f"{folder}: config.json says there are no biases, but {name} is not zero")
            continue
        state[ours] = tensor.t() if transposed else tensor  # (1)
    _check_head(folder, tensors, prefix + "wte.weight")
    return config, state


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
            names = sorted(set(_read_json(index).get("weight_map", {}).values()))
        elif (folder / "pytorch_model.bin").exists():
            raise CheckpointError(
                f"{folder} holds pytorch_model.bin, a pickle, which can run any code when it is read: "
                "save it anew with transformers' save_pretrained, which writes model.safetensors"
            )
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            tensors |= safetensors.torch.load_file(folder / name)
        except FileNotFoundError as error:
            raise CheckpointError(f"no weights: {folder / name} does not exist") from error
        except (OSError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{folder / name} is not a whole safetensors file: {error}") from error
    return tensors


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
