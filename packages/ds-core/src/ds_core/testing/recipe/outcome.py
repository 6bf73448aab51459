"""What a run leaves in its folder, but for the clock: two runs that are equal leave the same, bit for bit."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ds_core.training.history import read_log
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE

_CLOCK = "seconds"


def outcome(folder: Path) -> dict[str, Any]:
    """The content of every file by its name, without the seconds that the run took."""
    return {path.name: _content(path) for path in sorted(folder.iterdir())}


def first_difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """Where two outcomes differ, in words; None if they are equal."""
    for name in sorted({*found, *expected}):
        if name not in found or name not in expected:
            return f"{name} is {'missing' if name not in found else 'left over'}"
        where = _difference(found[name], expected[name])
        if where is not None:
            return f"{name}{where} differs"
    return None


def weights(folder: Path) -> dict[str, Tensor]:
    """The model's tensors in the checkpoint, by name."""
    with safe_open(folder / CHECKPOINT_FILE, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118 (not a dict)
        return {name.removeprefix("model."): file.get_tensor(name) for name in names}


def logged(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    """The log's records of one kind, without the seconds."""
    return [_timeless(record) for record in read_log(folder / LOG_FILE) if record["kind"] == kind]


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if "state" in metadata:
            del metadata["checksum"]  # of the state, seconds and all
            metadata["state"] = _timeless(json.loads(metadata["state"]))
        return {"metadata": metadata, **tensors}
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_bytes()))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_bytes().splitlines()]
    return path.read_bytes() if path.is_file() else "a folder"


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name != _CLOCK}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def _difference(found: Any, expected: Any) -> str | None:
    """The path to the first difference within a file, or None."""
    if type(found) is not type(expected):
        return ""
    if isinstance(found, Tensor):
        return None if _bits(found) == _bits(expected) else ""
    if isinstance(found, dict):
        if found.keys() != expected.keys():
            return f": the names {', '.join(sorted(map(str, found.keys() ^ expected.keys())))}"
        pairs = [(f": {name}", found[name], expected[name]) for name in found]
    elif isinstance(found, list):
        if len(found) != len(expected):
            return f": {len(found)} entries, expected {len(expected)}; one"
        pairs = [(f" [{index}]", one, other) for index, (one, other) in enumerate(zip(found, expected, strict=True))]
    else:
        return None if found == expected else ""
    for name, one, other in pairs:
        where = _difference(one, other)
        if where is not None:
            return name + where
    return None


def _bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tuple(tensor.shape), tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
