"""The files of one run that a Trainer writes: where they are, and whose they are."""

from pathlib import Path

from ds_core.atomic_files import remove_leftovers
from ds_core.errors import UserError, WriteError
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE


class RunFiles:
    """The checkpoint and the log in a folder, or nowhere.

    Args:
        folder: None for a run that writes nothing.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)

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

    def refuse_another_run(self) -> None:
        """Raise UserError if there is a checkpoint, for a run that begins."""
        if self.has_checkpoint():
            raise UserError(f"{self.folder} already holds a run: resume() goes on with it, or take another folder")

    def make_folder(self) -> None:
        """Raise WriteError where it cannot be made."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot use {self.folder} for a run: {error.strerror}") from error
        remove_leftovers(self.folder)
