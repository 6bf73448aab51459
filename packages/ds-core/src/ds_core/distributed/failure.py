"""How several processes end as one: whoever fails says so, once, and the others end without a word."""

import os
import threading
import time
from typing import Any

from ds_core.errors import UserError, one_line

_FAILURE, _TROUBLE, _ALIVE, _WAITING = "failure", "trouble", "alive", "waiting"
_POLL = 0.25  # seconds between two looks at the board
_ROLL_CALL = 1.0  # what the watchers of all living processes have time for, to say that they are there
_GRACE = 4.0  # how long a process may go on once another has failed


class PeerError(UserError):
    """Another process of this run has failed, or is gone, so this one cannot go on.

    Attributes:
        reported: whether some process has said why already, so that this one should be silent.
    """

    exit_status = 1

    def __init__(self, message: str, reported: bool = False) -> None:
        super().__init__(message)
        self.reported = reported


class Board:
    """Where the processes of a run read that one of them has failed: a few keys in the store that started them.

    A thread looks at it now and then. It ends a process that, `_GRACE` seconds after the failure, still waits in an
    operation that the others will never take part in.

    Args:
        store: of torch.distributed, reached by all processes.
        rank, world_size: the number of this process, and how many there are.
    """

    def __init__(self, store: Any, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="ds-failure-watch", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._ended.set()

    def report(self, text: str) -> bool:
        """Tell the others that this process fails; True for the first one to do so, who is to tell the user."""
        self.close()
        entry = f"{self._rank} {text}"
        try:
            first: bytes = self._store.compare_set(_FAILURE, "", entry)
            self._store.set(_TROUBLE, "")
        except RuntimeError:  # no store any more: the others learn it from their sockets, and nobody can be asked
            return True
        return first == entry.encode()

    def explain(self, error: RuntimeError) -> Exception:
        """What it means that an operation of all processes has failed: a `PeerError`, or `error` if all are there."""
        try:
            for mark in (_ALIVE, _WAITING):
                self._store.set(_key(mark, self._rank), "")
            self._store.set(_TROUBLE, "")
            deadline = time.monotonic() + _ROLL_CALL
            while time.monotonic() < deadline and not self._store.check([_FAILURE]):
                time.sleep(0.05)
            if self._store.check([_FAILURE]):
                return self._reported()
            gone, late = self._without(_ALIVE), self._without(_WAITING)
        except RuntimeError:
            return PeerError("rank 0, or the program that started the processes, is gone without a word")
        if gone:
            text = f"rank {gone} is gone without a word (killed, or out of memory?)"
        elif late:
            text = f"rank {late} is there, but has not come to where the others wait for it ({one_line(error)[:80]})"
        else:
            return error
        return PeerError(text) if self.report(text) else self._reported()

    def _without(self, kind: str) -> str:
        """The ranks that have not left this mark."""
        return ", ".join(str(rank) for rank in range(self._world_size) if not self._store.check([_key(kind, rank)]))

    def _reported(self) -> PeerError:
        rank, _, text = self._store.get(_FAILURE).decode().partition(" ")
        return PeerError(f"rank {rank} has failed: {text}", reported=True)

    def _watch(self) -> None:
        try:
            while not self._store.check([_TROUBLE]):
                if self._ended.wait(_POLL):
                    return
            self._store.set(_key(_ALIVE, self._rank), "")
        except RuntimeError:  # the store is gone
            pass
        if not self._ended.wait(_GRACE):
            os._exit(1)


def _key(kind: str, rank: int) -> str:
    return f"{kind}/{rank}"


def describe_failure(error: BaseException) -> str:
    """An error in one line for the processes that did not have it."""
    text = one_line(error)
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
