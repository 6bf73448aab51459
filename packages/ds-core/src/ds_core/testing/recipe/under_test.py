"""A recipe and the words of a small run of it, and what a check expects of its sessions."""

import contextlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ds_core.recipes.recipe import Recipe
from ds_core.testing.failure import CheckFailed
from ds_core.testing.recipe.mishaps import note_writes
from ds_core.testing.recipe.outcome import first_difference, logged, outcome
from ds_core.testing.recipe.sessions import Ended, Prepare, Session
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, RECIPE_FILE, read_run_folder

# Words of the command line, as one string or one by one
Words = str | Sequence[str]

# The finished runs that checks of this process compare with: folder, files in the order written, what was printed
_finished: dict[tuple[int, tuple[str, ...]], tuple[Path, list[str], str]] = {}
# Keeps the recipes and folders of `_finished` until the process ends
_kept: list[object] = []


def split(words: Words) -> list[str]:
    """The single words."""
    return shlex.split(words) if isinstance(words, str) else list(words)


class RecipeUnderTest:
    """Runs `ds train` for a part of the check, in folders of its own below `folder`.

    Args:
        words: of a run of a few steps, without `--out`. One thread, the CPU and no plots are added.
        part: what is being checked, for messages.
    """

    def __init__(self, recipe: Recipe, words: Words, part: str, folder: Path) -> None:
        self.recipe = recipe
        self.part = part
        self.folder = folder
        known = {field.name for field in fields(recipe.options)}
        self.words = split(words)
        for name, value in (("threads", "1"), ("device", "cpu")):
            if name in known and f"--{name}" not in self.words:
                self.words += [f"--{name}", value]
        self.draws = "plots" in known and "--plots" not in self.words
        if self.draws and "--no-plots" not in self.words:
            self.words.append("--no-plots")

    def train(self, *words: str, out: Path, prepare: Prepare | None = None) -> Ended:
        """One session of `ds train` with these words alone, until it ends."""
        return self.session("train", self.recipe.name, "--out", str(out), *words, prepare=prepare)

    def session(self, *words: str, prepare: Prepare | None = None) -> Ended:
        """One session of `ds`, until it ends."""
        return Session(self.recipe, words, self.folder, prepare).wait()

    def finished(self) -> tuple[Path, list[str], str]:
        """The folder of an undisturbed run, its files in the order written, and what it printed."""
        key = (id(self.recipe), tuple(self.words))
        if key not in _finished:
            keep = tempfile.TemporaryDirectory(prefix="ds-check-")
            folder, notes = Path(keep.name) / "run", Path(keep.name) / "writes"
            words = ["train", self.recipe.name, "--out", str(folder), *self.words]
            session = Session(self.recipe, words, Path(keep.name), lambda: note_writes(notes))
            ended = session.wait()
            self.expect(ended, 0, "a run that nothing happens to")
            session.import_what_it_imported()
            _kept.extend([self.recipe, keep])
            _finished[key] = folder, notes.read_text().split(), ended.out
        return _finished[key]

    def copy(self, name: str = "copy") -> Path:
        """A copy of the finished run, to be changed."""
        return Path(shutil.copytree(self.finished()[0], self.folder / name))

    @property
    def steps(self) -> int:
        """How many steps the finished run has."""
        return len(logged(self.finished()[0]))

    def fail(self, reason: str) -> None:
        """Raise `CheckFailed`."""
        raise CheckFailed(f"recipe {self.recipe.name}", self.part, reason)

    def expect(self, ended: Ended, status: int, what: str) -> None:
        """Fail unless the session ended with `status`, and without a traceback."""
        if ended.status != status or "Traceback" in ended.err:
            last = "\n    ".join([*ended.out.splitlines()[-3:], *ended.err.splitlines()[-12:]])
            self.fail(f"{what} ended with status {ended.status}, expected {status}:\n    {last}")

    def expect_complaint(self, ended: Ended, message: str, what: str, allowed: Sequence[int] = (1, 2)) -> None:
        """Fail unless the session was refused in one line on stderr, the last one, that holds `message`."""
        lines = [line for line in ended.err.splitlines() if line.startswith("ds: error: ")]
        last = ended.err.rstrip().splitlines()[-1:]
        if ended.status not in allowed or len(lines) != 1 or last != lines or "Traceback" in ended.err:
            self.fail(
                f"{what} ended with status {ended.status} and {ended.err[-2000:]!r}, expected status "
                f"{' or '.join(map(str, allowed))}, and one line 'ds: error: ...' at the end of stderr"
            )
        if message not in lines[0]:
            self.fail(f"{what} is refused with {lines[0]!r}, expected {message!r} in it")

    def expect_equal(self, folder: Path, what: str) -> None:
        """Fail unless `folder` holds what the finished run left, bit for bit but for the clock."""
        where = first_difference(outcome(folder), outcome(self.finished()[0]))
        if where is not None:
            self.fail(f"{what} does not end where the unbroken run ends: {where}")

    def expect_same_lines(self, ended: Ended, folder: Path, what: str) -> None:
        """Fail if the session printed a line, without times, that the finished run did not."""

        def lines(text: str, out: Path) -> list[str]:
            return [re.sub(r"[\d.]+ s of training.*", "", line.replace(str(out), "OUT")) for line in text.splitlines()]

        whole, _, printed = self.finished()
        more = [line for line in lines(ended.out, folder) if line not in lines(printed, whole)]
        if more:
            self.fail(f"{what} printed {more[0]!r}, which the unbroken run did not")

    def expect_each_step_once(self, folder: Path, steps: int | None = None) -> None:
        """Fail unless the log has the steps 1, 2, 3 ... of training, each once."""
        found = [record["step"] for record in logged(folder)]
        if found != [*range(1, 1 + (len(found) if steps is None else steps))]:
            self.fail(f"{LOG_FILE} has the training steps {found}, expected each once")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder as it is, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def known_files(folder: Path) -> set[str]:
    """The names of the files that a run's record says it may leave."""
    files: list[str] = []
    with contextlib.suppress(Exception):
        files = read_run_folder(folder).files
    return {RECIPE_FILE, CHECKPOINT_FILE, LOG_FILE, *files}
