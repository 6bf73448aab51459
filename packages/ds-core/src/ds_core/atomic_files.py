"""Write a file whole or not at all: whoever reads it finds the old content or the new, whatever happens in between."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ds_core.errors import WriteError, one_line

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def write_atomically(path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object]) -> None:
    """Write `content` in a temporary folder beside `path`, bring it to the disk, and rename it to `path`.

    A process killed on the way leaves at most that folder, `.NAME.PID.tmp`, which
    nobody reads and `remove_leftovers` deletes. It is a folder because `content` may
    be a library's function that has temporary files of its own (safetensors' has).

    Args:
        path: the file; its folder must exist.
        content: bytes, text (written as UTF-8), or a function that writes a file of the name it is given.

    Raises:
        WriteError: the disk is full, the folder is missing or not writable, ...; what `path` held is still there.
    """
    path = Path(path)
    work = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary = work / path.name
    try:
        work.mkdir(exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        if callable(content):
            content(temporary)
            temporary.chmod(mode)  # safetensors keeps what it writes from everybody else
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        _to_disk(temporary)
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # not every system can do it for a folder, and the file is there
            _to_disk(path.parent)
    except OSError as error:
        kept = "; what it held before is still there" if path.exists() else ""
        raise WriteError(f"cannot write {path}: {error.strerror or one_line(error)}{kept}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether this is what a write that was cut off has left."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete what writes that were cut off have left."""
    for path in Path(folder).glob(".*.tmp"):
        if is_leftover(path):
            shutil.rmtree(path, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Ask the system to write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
