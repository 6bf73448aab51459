"""One file that holds a training run: weights, optimizer, schedule, step, random states. Format: docs/checkpoint.md.

A safetensors file, so without pickle: tensors by name, all else as JSON in the
header. Every tensor and the JSON carry a checksum. Written whole or not at all.
"""

import copy
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ds_core.__about__ import __version__
from ds_core.atomic_files import write_atomically
from ds_core.engine.module import unused_state
from ds_core.engine.random_state import random_state, restore_random_state, seed_for_rank
from ds_core.errors import CheckpointError, one_line
from ds_core.training.state_json import StateEncoder, decode, tensor_names

FORMAT = "ds-checkpoint"
VERSION = 1

_KEYS = {"model", "random", "extra", "classes", "step", "threads", "versions", "checksums"}


@dataclass
class Checkpoint:
    """What `load_checkpoint` found besides what it loaded into place."""

    step: int
    extra: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def save_checkpoint(
    path: str | Path,
    *,
    model: Any,
    optimizer: Any = None,
    schedule: Any = None,
    criterion: Any = None,
    step: int = 0,
    extra: Mapping[str, Any] | None = None,
    random: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write everything a run needs to go on as if it had not been stopped.

    Args:
        model, optimizer, schedule, criterion: what has a `state_dict()` is saved by it.
        step: optimizer steps taken.
        extra: more state: nested dicts and lists of tensors, numbers, strings.
        random: the `random_state()` of each process by rank, where several train together; default this one's.

    Raises:
        WriteError: disk full, folder missing or not writable; the previous checkpoint is still there.
    """
    parts = _parts(optimizer=optimizer, schedule=schedule, criterion=criterion)
    encoder = StateEncoder()
    first, *others = [random_state()] if random is None else random
    content = {
        "model": encoder.encode(model.state_dict(), "model"),
        **{name: encoder.encode(_state_to_write(part), name) for name, part in parts.items()},
        "random": encoder.encode(first, "random"),
        **({"random_others": encoder.encode(others, "random_others")} if others else {}),
        "extra": encoder.encode(dict(extra or {}), "extra"),
        "classes": {name: type(part).__name__ for name, part in parts.items()},
        "step": step,
        "threads": torch.get_num_threads(),
        "versions": {"ds-core": __version__, "torch": torch.__version__},
    }
    tensors = _separate(encoder.tensors)
    state = json.dumps({**content, "checksums": {name: _checksum(tensor) for name, tensor in tensors.items()}})
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "checksum": str(zlib.crc32(state.encode())),
        "state": state,
    }

    def write(temporary: Path) -> None:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(one_line(error)) from error

    write_atomically(path, write)


def load_checkpoint(
    path: str | Path,
    *,
    model: Any,
    optimizer: Any = None,
    schedule: Any = None,
    criterion: Any = None,
    rank: int = 0,
    world_size: int = 1,
) -> Checkpoint:
    """Put the run in `path` back into place: what is given here, all random states, the number of threads.

    The file is checked first: after an error the model and the generators are as they were.
    Where several processes train together each loads it, and takes the random state of its rank; PyTorch's generators
    of a rank that the run did not have before get a seed of their own.

    Raises:
        CheckpointError: the file is missing, damaged, foreign or newer, or of another model, optimizer or schedule.
    """
    state, tensors = _read(Path(path))
    parts = _parts(optimizer=optimizer, schedule=schedule, criterion=criterion)
    _check_weights(path, decode(state["model"], tensors), model, dtypes=True)
    for name, part in parts.items():
        saved = state["classes"].get(name)
        if saved != type(part).__name__:
            raise CheckpointError(f"{path} has {saved or 'nothing'} as {name}, this run {type(part).__name__}")
    before = {name: copy.deepcopy(_state_to_write(part)) for name, part in parts.items()}
    for name, part in parts.items():
        try:
            part.load_state_dict(decode(state[name], tensors))
        except (ValueError, KeyError, RuntimeError) as error:
            for other in parts:
                if other == name:
                    break
                parts[other].load_state_dict(before[other])
            raise CheckpointError(f"{path} is of another {name}: {one_line(error)}") from error
    model.load_state_dict(decode(state["model"], tensors))
    every = [state["random"], *state.get("random_others", [])]
    notes = restore_random_state(decode(every[rank if rank < len(every) else 0], tensors))
    if rank >= len(every):
        seed_for_rank(rank, state["step"])
    if world_size != len(every):
        notes.append(
            f"{len(every)} process(es) wrote it, {world_size} go on: with the same batches, but other rounding and "
            "other dropout masks, so that the run need not equal an unbroken one bit for bit"
        )
    if state["threads"] != torch.get_num_threads():
        notes.append(f"{state['threads']} threads, as when the run began (there were {torch.get_num_threads()})")
        torch.set_num_threads(state["threads"])  # sums are split by thread: another number, other rounding
    if state["versions"]["torch"] != torch.__version__:
        notes.append(
            f"written with torch {state['versions']['torch']}, this is {torch.__version__}: the run goes on, "
            "but need not equal an unbroken one bit for bit"
        )
    return Checkpoint(state["step"], decode(state["extra"], tensors), notes)


def load_weights(path: str | Path, model: Any) -> int:
    """Load only the weights, cast to the model's dtype; returns the step they are from.

    Raises:
        CheckpointError: the file is missing, damaged, foreign or newer, or of another model.
    """
    state, tensors = _read(Path(path), "model")
    weights = decode(state["model"], tensors)
    _check_weights(path, weights, model, dtypes=False)
    model.load_state_dict(weights)
    return int(state["step"])


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, or in any other safetensors file, by name and on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged or newer.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT and "state" not in metadata:  # one damaged mark makes it no other's
                return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        pass  # which `_read` meets too, and says what it is
    state, tensors = _read(path, "model")
    weights: dict[str, Tensor] = decode(state["model"], tensors)
    return weights


def describe_checkpoint(path: str | Path) -> Checkpoint:
    """Step and extra state; weights are read only where the extra state shares them.

    Raises:
        CheckpointError: the file is missing, damaged, foreign or newer.
    """
    state, tensors = _read(Path(path), "extra")
    return Checkpoint(state["step"], decode(state["extra"], tensors))


def _parts(**parts: Any) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}


def _state_to_write(part: Any) -> Any:
    """What is written at once needs no copy, of which an optimizer's `state_dict` makes one."""
    return part.live_state_dict() if hasattr(part, "live_state_dict") else part.state_dict()


def _read(path: Path, section: str | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON and the tensors, all or those of one section of the JSON, checksums verified.

    What a section needs is what it refers to: memory that two share is kept under the name it has in the first.
    Each tensor is a copy: the file is mapped into memory at any address, and how
    a kernel rounds may depend on the alignment of what it reads.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}: there is no such file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state = _state(path, file.metadata() or {})
            names = set(file.keys())
            if names != set(state["checksums"]):
                raise CheckpointError(f"{path} is damaged: its tensors are not those it names")
            wanted = names if section is None else set(tensor_names(state[section]))
            tensors = {name: file.get_tensor(name).clone() for name in sorted(wanted)}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged, cut off, or no checkpoint: {one_line(error)}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    for name, tensor in tensors.items():
        if _checksum(tensor) != state["checksums"][name]:
            raise CheckpointError(f"{path} is damaged: {name} does not have the checksum it was written with")
    return state, tensors


def _state(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of a training run: it is a safetensors file written otherwise")
    version = metadata.get("version", "")
    if not version.isdigit():
        raise CheckpointError(f"{path} is damaged: format version {version!r}")
    if int(version) > VERSION:
        raise CheckpointError(
            f"{path} was written by a newer version: format {version}, ds-core {__version__} reads up to {VERSION}; "
            "upgrade ds-core"
        )
    text = metadata.get("state", "")
    try:
        state = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: its JSON cannot be read: {one_line(error)}") from error
    if metadata.get("checksum") != str(zlib.crc32(text.encode())):
        raise CheckpointError(f"{path} is damaged: its JSON does not have the checksum it was written with")
    if not isinstance(state, dict) or _KEYS - set(state):
        raise CheckpointError(f"{path} is damaged: its JSON lacks what a checkpoint has")
    return state


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors contiguous in CPU memory, none overlapping another (the format forbids it); few need to be copied."""
    placed = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    end = 0
    for name, tensor in sorted(placed.items(), key=lambda item: item[1].data_ptr()):
        if tensor.numel() > 0 and tensor.data_ptr() < end:
            placed[name] = tensor.clone()
        else:
            end = max(end, tensor.data_ptr() + tensor.numel() * tensor.element_size())
    return placed


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(np.asarray(tensor.reshape(-1).view(torch.uint8)).data)


def _check_weights(path: str | Path, weights: Mapping[str, Tensor], model: Any, *, dtypes: bool) -> None:
    own = model.state_dict()
    problems = [f"{name} is not in the file" for name in own if name not in weights]
    passed_over = unused_state(model)
    problems += [f"{name} is not in the model" for name in weights if name not in own and name not in passed_over]
    for name in own:
        if name in weights:
            theirs, ours = weights[name], own[name]
            if theirs.shape != ours.shape:
                problems.append(f"{name} has shape {tuple(theirs.shape)}, in the model {tuple(ours.shape)}")
            elif dtypes and theirs.dtype != ours.dtype:
                problems.append(f"{name} has dtype {theirs.dtype}, in the model {ours.dtype}")
    if problems:
        more = f"; and {len(problems) - 3} more differences" if len(problems) > 3 else ""
        raise CheckpointError(f"{path} is of another model: {'; '.join(problems[:3])}{more}")
