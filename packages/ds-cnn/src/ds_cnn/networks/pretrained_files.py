"""Models as files: config.json and safetensors, read and written whole, every fault one clear error.

Theory: docs/resnet_pretrained.md.
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

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
_COUNTER = "num_batches_tracked"  # of a batch norm; files of before 2018 have none


def write_folder(folder: str | Path, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write model.safetensors and config.json; each appears whole or not at all, the weights first.

    Raises:
        WriteError: the folder cannot be made, or a file in it not be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write a model into {folder}: {error.strerror or one_line(error)}") from error
    write_tensors(folder / "model.safetensors", tensors)
    write_atomically(folder / "config.json", (json.dumps(dict(fields), indent=2) + "\n").encode())


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, with a checksum of every tensor in its metadata.

    Raises:
        WriteError: it cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksums = json.dumps({name: _checksum(tensor) for name, tensor in plain.items()})
    write_atomically(path, weights_bytes(plain, {"format": "pt", "crc32": checksums}))


def read_config(folder: str | Path) -> dict[str, Any]:
    """The fields of config.json.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return _read_json(Path(folder) / "config.json")


def read_folder(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors, or of the shards that its index lists.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are a pickle.
    """
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists() or not index.exists():
        if not (folder / "model.safetensors").exists() and (folder / "pytorch_model.bin").exists():
            return read_tensors(folder / "pytorch_model.bin")  # which refuses it
        return read_tensors(folder / "model.safetensors")
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} is damaged: expected a weight_map from the name of each tensor to its file")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        tensors |= read_tensors(folder / name)
    return tensors


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, held against their checksums where it has them.

    Raises:
        CheckpointError: it is missing, damaged or a pickle, or holds numbers that are not finite.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise CheckpointError(
            f"{path} is a pickle by its name, which can run any code when it is read: convert it once with "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW_FILE)"
        )
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"no weights: {path} does not exist") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {one_line(error)}") from error
    try:
        checksums = dict(json.loads(metadata.get("crc32", "{}")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: its checksums cannot be read") from error
    for name, tensor in tensors.items():
        if name in checksums and checksums[name] != _checksum(tensor):
            raise CheckpointError(f"{path} is damaged: {name} does not have the checksum it was written with")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are infinite or NaN")
    return tensors


def fit_tensors(source: str | Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of `tensors` that `expected` names, if they fit.

    Counters of batches may be missing altogether, and are then 0; or `expected` has none, and they are left out.

    Args:
        source: the file or folder, for messages.
        tensors: what it holds.
        expected: tensors of the shapes and kinds that are wanted, by the names that the file should have.

    Raises:
        CheckpointError: names are missing or left over, or a shape or kind of number differs.
    """
    found = dict(tensors)
    if not any(name.endswith(_COUNTER) for name in found):
        found |= {name: torch.zeros_like(tensor) for name, tensor in expected.items() if name.endswith(_COUNTER)}
    elif not any(name.endswith(_COUNTER) for name in expected):
        found = {name: tensor for name, tensor in found.items() if not name.endswith(_COUNTER)}
    missing = [name for name in expected if name not in found]
    others = sorted(name for name in found if name not in expected)
    if missing or others:
        parts = [f"lacks {_listed(missing)}"] if missing else []
        parts += [f"holds {_listed(others)} beyond the model"] if others else []
        raise CheckpointError(f"{source} is of another model: it {' and '.join(parts)}")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source} is of another model: {name} has shape {tuple(found[name].shape)}, expected "
                f"{tuple(tensor.shape)}"
            )
        if found[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"{source} is of another model: {name} is in {found[name].dtype}")
    return {name: found[name] for name in expected}


def with_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with a counter of batches for each batch norm that has none, such as frozen ones: readers expect it."""
    whole = {}
    for name, tensor in tensors.items():
        whole[name] = tensor
        counter = name.removesuffix("running_var") + _COUNTER
        if name.endswith(".running_var") and counter not in tensors:
            whole[counter] = torch.zeros((), dtype=torch.int64)
    return whole


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(np.asarray(tensor.reshape(-1).view(torch.uint8)).data)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"no model in {path.parent}: {path.name} does not exist") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"cannot read {path}: expected a JSON object")
    return fields
