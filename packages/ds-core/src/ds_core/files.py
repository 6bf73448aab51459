"""Write a file whole or not at all: whoever reads it finds the old content or the new, whatever happens in between."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from ds_core.errors import WriteError, one_line

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def write_atomically(path: str | os.PathLike[str], content: bytes | str | Callable[[Path], object]) -> None:
    """Write `content` under a temporary name beside `path`, bring it to the disk, and rename it to `path`.

    A process killed on the way leaves at most a file `.NAME.PID.tmp`, which
    nobody reads and `remove_leftovers` deletes.

    Args:
        path: the file; its folder must exist.
        content: bytes, text (written as UTF-8), or a function that writes a file of the name it is given.

    Raises:
        WriteError: the disk is full, the folder is missing or not writable, ...; what `path` held is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
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
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether this is the temporary file of a write that was cut off."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Delete the temporary files of writes that were cut off."""
    for path in Path(folder).glob(".*.tmp"):
        if is_leftover(path):
            with contextlib.suppress(OSError):
                path.unlink()


def _to_disk(path: Path) -> None:
    """Ask the system to write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
