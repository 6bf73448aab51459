"""The files of one run that a Trainer writes: where they are, and whose they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ds_core.atomic_files import remove_leftovers
from ds_core.distributed.processes import OneProcess
from ds_core.errors import CheckpointError, UserError, WriteError
from ds_core.training.folder_lock import hold_folder, release_folder
from ds_core.training.history import FINAL, read_log
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, note_checkpoint, was_saved


class RunFiles:
    """The checkpoint and the log in a folder, or nowhere.

    Args:
        folder: None for a run that writes nothing.
        checkpoint_every: steps between checkpoints, None: one with every evaluation.
    """

    def __init__(self, folder: str | Path | None, checkpoint_every: int | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.checkpoint_every = checkpoint_every
        self.note: str | None = None  # what the user should know of the folder
        self._noted = False

    @property
    def log(self) -> Path | None:
        return None if self.folder is None else self.folder / LOG_FILE

    @property
    def checkpoint(self) -> Path:
        """Raises ValueError where there is no folder."""
        if self.folder is None:
            raise ValueError("Trainer: a checkpoint needs a folder")
        return self.folder / CHECKPOINT_FILE

    def has_checkpoint(self) -> bool:
        return self.folder is not None and self.checkpoint.exists()

    def last_good(self) -> str:
        """What is left to go on with, in words."""
        return (
            f"the last good checkpoint is {self.checkpoint}" if self.has_checkpoint() else "there is no checkpoint yet"
        )

    def is_own(self, source: Path) -> bool:
        """Whether `source` is the folder's checkpoint, however its path is spelt; a UserError if it has another."""
        if not (source.exists() and self.has_checkpoint()):
            return False
        if not source.samefile(self.checkpoint):
            raise UserError(
                f"cannot go on from {source} in {self.folder}, which already holds a run and would lose it: "
                "give the Trainer another folder, or resume() without a path to go on with that run"
            )
        return True

    @contextmanager
    def held(self, processes: OneProcess, make: bool = False) -> Iterator[None]:
        """Inside, no other run can use the folder, which rank 0 locks and, if `make`, makes before.

        Raises:
            UserError: another run trains in it.
            WriteError: it cannot be made.
        """
        processes.on_first(lambda: self._hold(make))
        try:
            yield
        finally:
            if self.folder is not None and processes.first:
                release_folder(self.folder, self)

    def _hold(self, make: bool) -> None:
        if self.folder is None:
            return
        if make:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WriteError(f"cannot use {self.folder} for a run: {error.strerror}") from error
        if self.folder.is_dir():
            self.note = hold_folder(self.folder, self)

    def remove_leftovers(self) -> None:
        """Delete what killed writes have left; only while the folder is held."""
        if self.folder is not None:
            remove_leftovers(self.folder)

    def refuse_another_run(self) -> None:
        """Raise UserError if there is a checkpoint, or there was one, for a run that begins."""
        if self.has_checkpoint():
            raise UserError(f"{self.folder} already holds a run: resume() goes on with it, or take another folder")
        lost = self._lost()
        if lost is not None:
            raise UserError(f"{self.folder} already holds a run: {lost}; take another folder")

    def refuse_lost_checkpoint(self) -> None:
        """Raise CheckpointError if there is no checkpoint, though the run was not killed before its first one."""
        lost = self._lost()
        if lost is not None:
            raise CheckpointError(
                f"cannot resume: {lost}; put it back, or start again in another folder (ds train: or with --overwrite)"
            )

    @contextmanager
    def writing(self, own: bool) -> Iterator[None]:
        """Inside, a checkpoint is written; the folder's `own` one while no other run trains there.

        Afterwards it is noted, so that its loss is noticed.
        """
        if not own or self.folder is None:
            yield
            return
        self._hold(make=False)
        try:
            yield
            if not self._noted:
                note_checkpoint(self.folder)
                self._noted = True
        finally:
            release_folder(self.folder, self)

    def _lost(self) -> str | None:
        """What is wrong, in words, if the folder has lost its checkpoint; None if there is one, or was none yet."""
        if self.folder is None or self.has_checkpoint():
            return None
        if self.checkpoint.is_symlink():
            return f"{self.checkpoint} is a link to {self.checkpoint.readlink()}, which is not there"
        if was_saved(self.folder):
            return f"{self.checkpoint} is missing, which this run has written"
        step = self._saved_by_log()
        if step is not None:
            return f"{self.checkpoint} is missing, which was written by step {step} of {LOG_FILE}"
        return None

    def _saved_by_log(self) -> int | None:
        """The step of the first record that is in the log only if a checkpoint was written before; None: no such."""
        if self.log is None or not self.log.exists():
            return None
        evaluated = None
        for record in read_log(self.log):
            if record.get(FINAL) is True:
                return int(record["step"])
            if record["kind"] == "evaluation" and evaluated is None and self.checkpoint_every is None:
                evaluated = record["step"]
            last = evaluated if self.checkpoint_every is None else self.checkpoint_every
            if record["kind"] == "train" and last is not None and record["step"] > last:
                return int(record["step"])
        return None
