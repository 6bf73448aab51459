"""A run folder belongs to one run at a time. Theory: docs/trainer.md."""

import errno
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from ds_core.errors import UserError

# There only while a run trains, or after one was killed; what counts is whether the system has it locked.
LOCK_FILE = ".lock"

# What a system says of files that somebody else has locked
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class _Held:
    """A folder that this process has locked: the open file, and for whom, once for each `hold_folder`."""

    def __init__(self, handle: int | None, note: str | None) -> None:
        self.handle = handle
        self.note = note
        self.owners: list[object] = []


_held: dict[str, _Held] = {}
_mutex = threading.RLock()


def hold_folder(folder: str | Path, owner: object = None) -> str | None:
    """Lock a folder against every other run, of this process too, until `release_folder` with the same `owner`.

    The lock is the operating system's, on an open file: when the process ends, however it ends, the lock is gone. To
    hold a folder again is fine for the same owner. None is whoever leads the run as a whole, and lets one owner in.

    Returns:
        A note for the user if the file system knows no locks; the folder is then not protected.

    Raises:
        UserError: another run trains in the folder.
    """
    key = os.path.realpath(folder)
    with _mutex:
        held = _held.get(key)
        if held is None:
            held = _Held(*_lock(Path(folder)))
            _held[key] = held
        elif any(other is not None and other is not owner for other in held.owners):
            raise UserError(_in_use(folder, "another Trainer of this process"))
        held.owners.append(owner)
        return held.note


def release_folder(folder: str | Path, owner: object = None) -> None:
    """Undo one `hold_folder`."""
    key = os.path.realpath(folder)
    with _mutex:
        held = _held.get(key)
        if held is None or not any(other is owner for other in held.owners):
            return
        del held.owners[next(index for index, other in enumerate(held.owners) if other is owner)]
        if not held.owners:
            del _held[key]
            if held.handle is not None:
                path = Path(folder) / LOCK_FILE
                with suppress(OSError):
                    if _is_at(held.handle, path):  # not if the folder was deleted and made anew meanwhile
                        os.unlink(path)  # while it is locked: whoever opens the name later makes a file of his own
                os.close(held.handle)


def _lock(folder: Path) -> tuple[int | None, str | None]:
    """The open file, locked, or None and a note. No file at all if the folder cannot be written: nor can a run be."""
    path = folder / LOCK_FILE
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None, None
        try:
            _try_lock(handle)
        except OSError as error:
            who = _holder(handle)
            os.close(handle)
            if error.errno in _TAKEN:
                raise UserError(_in_use(folder, who)) from None
            return None, f"{folder} cannot be locked ({error.strerror}): see that no second run is started in it"
        if _is_at(handle, path):
            break
        os.close(handle)  # the run that had it has just ended, and its file with it
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return handle, None


def _in_use(folder: str | Path, who: str) -> str:
    return f"{folder} is in use: {who} trains in it now; wait until that has ended, or take another folder"


def _holder(handle: int) -> str:
    with suppress(OSError):
        os.lseek(handle, 0, os.SEEK_SET)
        text = os.read(handle, 300).decode(errors="replace")
        if text.startswith("process ") and text.isprintable():
            return text
    return "another process"


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> None:
        os.lseek(handle, 2**20, os.SEEK_SET)  # beyond the text, which others may then read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _forget_in_child() -> None:
    """A child that this process forks does not hold its folders: it would keep them locked if it lived longer."""
    for held in _held.values():
        if held.handle is not None:
            os.close(held.handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
