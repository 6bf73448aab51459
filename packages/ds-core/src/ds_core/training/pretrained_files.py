"""Models as others publish them: a folder of config.json and safetensors.

Theory: docs/checkpoint.md.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import torch
from torch import Tensor

from ds_core.atomic_files import write_atomically
from ds_core.errors import CheckpointError, WriteError, one_line
from ds_core.training.weights_file import weights_bytes

T = TypeVar("T")

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


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
    write_tensors(folder / _WEIGHTS, tensors)
    write_config(folder, fields, tensors)


def write_config(folder: str | Path, fields: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write config.json: the fields, and the tensors' dtype as `dtype`.

    Raises:
        WriteError: it cannot be written.
    """
    dtype = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())  # no count of steps
    written = {**fields, "dtype": str(dtype).removeprefix("torch.")}
    write_atomically(Path(folder) / _CONFIG, (json.dumps(written, indent=2) + "\n").encode())


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
        CheckpointError: it is missing or damaged, or `folder` is none.
    """
    folder = Path(folder)
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file, expected the folder that holds {_CONFIG} and {_WEIGHTS}")
    return _read_json(folder / _CONFIG)


def read_config_as(folder: str | Path, function: Callable[[dict[str, Any]], T]) -> T:
    """What `function` makes of the fields of config.json.

    Raises:
        CheckpointError: config.json is missing or damaged, or `function` raises a TypeError or ValueError, which is
            taken for what is wrong with the fields.
    """
    fields = read_config(folder)
    try:
        return function(fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{Path(folder) / _CONFIG}: {error}") from error


def check_fixed(model: str, given: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse fields that change the mathematics, if `model` does not compute their values.

    Args:
        model: its name, for the message.
        given: the fields of config.json.
        fixed: the values of such fields that it computes. An absent field has the first of them.

    Raises:
        ValueError: a field has another value.
    """
    for name, allowed in fixed.items():
        if given.get(name, allowed[0]) not in allowed:
            raise ValueError(f"{name} is {given[name]!r}; {model} reads only {allowed[0]!r}")


def read_folder(folder: str | Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors, or of the shards that its index lists.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are a pickle.
    """
    folder = Path(folder)
    if (folder / _WEIGHTS).exists() or not (folder / _INDEX).exists():
        pickled = folder / "pytorch_model.bin"
        if pickled.exists() and not (folder / _WEIGHTS).exists():
            raise CheckpointError(
                f"{pickled} is a pickle, which can run any code when it is read: save the model anew with "
                f"transformers' save_pretrained, which writes {_WEIGHTS}"
            )
        return read_tensors(folder / _WEIGHTS)
    weight_map = _read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(
            f"{folder / _INDEX} is damaged: expected a weight_map from the name of each tensor to its file"
        )
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        tensors |= read_tensors(folder / name)
    return tensors


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, held against their checksums where it has them.

    Raises:
        CheckpointError: it is missing, damaged, a folder or a pickle.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, expected a safetensors file, such as a {_WEIGHTS} in it")
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
    return tensors


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(np.asarray(tensor.reshape(-1).view(torch.uint8)).data)


def read_json(path: Path, missing: str) -> dict[str, Any]:
    """The object in a JSON file; `missing` is what the error says if there is no such file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(missing) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"cannot read {path}: expected a JSON object")
    return fields


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, f"no model in {path.parent}: {path.name} does not exist")
