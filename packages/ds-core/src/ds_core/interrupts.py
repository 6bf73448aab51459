"""Ctrl-C during training: the first one asks, the second one stops at once."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While open, a first SIGINT or SIGTERM only sets `requested` and says so; a second raises KeyboardInterrupt.

    Python delivers signals to the main thread, so in another thread nothing is
    installed. The handlers that were there are back afterwards.

    Args:
        heard: the line shown at the first signal.
    """

    def __init__(self, heard: str) -> None:
        self.requested = False
        self._heard = heard
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # None: a handler of C code, which Python could not put back
                if signal.getsignal(number) is not None:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with contextlib.suppress(OSError):
            # not through sys.stderr: the signal may have come in the middle of a write to it
            os.write(2, f"\n{self._heard}\n".encode())


class SharedInterrupts(Interrupts):
    """Of one process of several: a first signal sets `asked`, a second one raises KeyboardInterrupt.

    `requested` is set by who asks all processes, so that all stop after the same step.
    """

    asked = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
