"""What can happen to a run, or to its files. Most functions arrange one mishap in the process that calls them."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ds_core.training.history import JsonLines, Record


def damaged_checkpoints(whole: bytes) -> dict[str, bytes]:
    """A checkpoint's bytes, damaged in several ways; none of them can be read as the checkpoint."""
    data = 8 + int.from_bytes(whole[:8], "little")
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "corrupt": whole[:data] + bytes(byte ^ 255 for byte in whole[data:]),
        "noise": b"\x17" * 1000,
        "newer": whole.replace(b'"version":"1"', b'"version":"7"', 1),
        "foreign": save({"weight": torch.zeros(3)}),
    }


def note_writes(path: Path) -> None:
    """Append the name of every file that is written atomically to the file `path`."""

    def note(source: Path, target: Path) -> None:
        with open(path, "a") as file:
            file.write(f"{target.name}\n")

    _before_replace(note)


def kill_amid_write(name: str, count: int = 1) -> None:
    """Die by SIGKILL when the file `name` is half written for the `count`-th time."""
    left = [count]

    def kill(source: Path, target: Path) -> None:
        left[0] -= target.name == name
        if target.name == name and left[0] == 0:
            os.truncate(source, source.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    _before_replace(kill)


def signal_after_step(step: int, number: signal.Signals) -> None:
    """Send this process a signal when `step` is in the log."""
    append = JsonLines.append

    def after(log: JsonLines, record: Record) -> None:
        append(log, record)
        if record["kind"] == "train" and record["step"] == step:
            os.kill(os.getpid(), number)

    JsonLines.append = after  # type: ignore[method-assign, assignment]


def kill_amid_line(step: int) -> None:
    """Die by SIGKILL when half of the log's line of `step` is written."""
    append = JsonLines.append

    def half(log: JsonLines, record: Record) -> None:
        if record["kind"] == "train" and record["step"] == step:
            with open(log.path, "ab") as file:
                file.write(json.dumps(record).encode()[:20])
            os.kill(os.getpid(), signal.SIGKILL)
        append(log, record)

    JsonLines.append = half  # type: ignore[method-assign, assignment]


def limit_files(size: int) -> None:
    """Let no file grow beyond `size` bytes, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _before_replace(call: Callable[[Path, Path], None]) -> None:
    """Call with the two paths before a file that is complete takes its name."""
    replace: Any = os.replace

    def replaced(source: Any, target: Any, **more: Any) -> None:
        call(Path(source), Path(target))
        replace(source, target, **more)

    os.replace = replaced  # type: ignore[assignment]
