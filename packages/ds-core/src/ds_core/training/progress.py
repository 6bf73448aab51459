"""The progress bar, and lines that go above it."""

import sys
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]


class Progress:
    """A tqdm bar on stderr while one is started, and the way to write beside it.

    Args:
        shown: with False neither bar nor notes show.
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown
        self._bar: Any = None

    def start(self, total: int, done: int = 0) -> None:
        """Show the bar, `done` of `total` steps having been taken before; where stderr is no terminal, every 10 s."""
        if self.shown:
            every = 0.1 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, mininterval=every)

    def advance(self, **values: float) -> None:
        """One step more; `values` stand at the end of the bar."""
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
            self._bar.update()

    def note(self, text: str) -> None:
        """A line for the person who waits, on stderr."""
        if self.shown:
            self._write(text, sys.stderr)

    def write(self, text: str) -> None:
        """Text on stdout, shown or not: it is a result."""
        self._write(text, sys.stdout)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, text: str, file: Any) -> None:
        if self._bar is None:
            print(text, file=file, flush=True)
        else:
            self._bar.write(text, file=file)
