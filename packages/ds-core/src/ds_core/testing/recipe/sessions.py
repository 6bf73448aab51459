"""Sessions of `ds` in forked children of this process: nearly as cheap as a call, and they can be killed."""

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import NamedTuple

import torch

import ds_core.recipes.recipe
from ds_core.cli.main import main
from ds_core.recipes.recipe import Recipe
from ds_core.training.versions import RECIPE_GROUP

# Called in the child before `ds` begins, to arrange a mishap
Prepare = Callable[[], None]


class Ended(NamedTuple):
    """How a session ended.

    Attributes:
        status: the exit status, or the number of the signal that killed it, negative.
        out, err: what it printed.
    """

    status: int
    out: str
    err: str


class Session:
    """`ds` with these words, in a child that has begun; `wait` for it.

    The child sees one thread, since OpenMP's threads do not survive a fork, and finds `recipe` by its name, installed
    or not. Needs `os.fork`, so Linux or macOS.

    Args:
        folder: where its output goes until it has ended.
        prepare: called in the child first.
        environment: variables for the child; with them `ds` reads its words from `sys.argv`, as a process of its own.
    """

    def __init__(
        self,
        recipe: Recipe,
        words: Sequence[str],
        folder: Path,
        prepare: Prepare | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.words = ["ds", *words]
        self._paths = [folder / f"{name}-{time.monotonic_ns()}" for name in ("out", "err", "modules")]
        self._status: int | None = None  # as the system gives it, once that is known
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads in a process that forks
            self._pid = os.fork()
        if self._pid == 0:
            self._run(recipe, list(words), prepare, environment)

    def wait(self, timeout: float = 200.0) -> Ended:
        """How it ended; one that takes longer than `timeout` seconds is killed."""
        until = time.monotonic() + timeout
        status = self._status
        while status is None:
            found, ended = os.waitpid(self._pid, os.WNOHANG)
            status = ended if found else None
            if time.monotonic() > until:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.005 if status is None else 0)
        out, err = (path.read_text(errors="replace") for path in self._paths[:2])
        return Ended(os.waitstatus_to_exitcode(status), out, err)

    def wait_until_paused(self, timeout: float = 200.0) -> None:
        """Wait until a SIGSTOP has stopped it; `go_on` lets it continue.

        Raises:
            TimeoutError: it has ended instead, or runs still.
        """
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            found, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                return
            if found:
                self._status = status
                break
            time.sleep(0.005)
        raise TimeoutError("a session that was to be paused " + ("has ended" if self._status is not None else "runs"))

    def go_on(self, number: signal.Signals = signal.SIGCONT) -> None:
        """Let a session that is paused continue, or send it another signal."""
        os.kill(self._pid, number)

    def import_what_it_imported(self) -> None:
        """Import the same modules here, so that later children need not. To be called after `wait`."""
        names = self._paths[2].read_text().split() if self._paths[2].exists() else []
        for name in names:
            with contextlib.suppress(Exception):
                importlib.import_module(name)

    def _run(
        self, recipe: Recipe, words: list[str], prepare: Prepare | None, environment: Mapping[str, str] | None
    ) -> None:
        status, known = 1, set(sys.modules)
        try:
            for number, path in zip((1, 2), self._paths, strict=False):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - until the child ends
            sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
            signal.signal(signal.SIGINT, signal.default_int_handler)
            torch.set_num_threads(1)
            _install(recipe)
            if prepare is not None:
                prepare()
            if environment is None:
                status = main(words)
            else:
                os.environ.update(environment)
                sys.argv = ["ds", *words]
                status = main()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                self._paths[2].write_text("\n".join(sorted(set(sys.modules) - known)))
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def _install(recipe: Recipe) -> None:
    """Let `ds` find the recipe by its name in this process."""

    class Given(EntryPoint):
        dist = None

        def load(self) -> Recipe:
            return recipe

    module = vars(ds_core.recipes.recipe)
    others = [entry for entry in module["entry_points"](group=RECIPE_GROUP) if entry.name != recipe.name]
    points = EntryPoints([*others, Given(recipe.name, "given:recipe", RECIPE_GROUP)])
    module["entry_points"] = lambda group: points
