"""What the other commands of a recipe ask of a run folder."""

from pathlib import Path
from typing import TypeVar

from ds_core.errors import UserError
from ds_core.options import build_options, from_json
from ds_core.training.run_folder import CHECKPOINT_FILE, read_run_folder

O = TypeVar("O")  # noqa: E741 (options)


def options_of_run(folder: Path, kind: type[O]) -> O:
    """The options that the run in a folder has been given.

    Raises:
        UserError: there is no run, or its recipe.json is damaged.
    """
    return build_options(kind, from_json(kind, read_run_folder(folder).options))


def check_evaluated(folder: Path, recipe: str, best: str = "model.safetensors") -> None:
    """Refuse a run that has a checkpoint but no best weights yet.

    Args:
        recipe: its name, for the message.
        best: the file that an evaluation leaves.

    Raises:
        UserError: there is a checkpoint, and no such file.
    """
    if not (folder / best).exists() and (folder / CHECKPOINT_FILE).exists():
        raise UserError(
            f"{folder}: there has been no evaluation yet, so no weights are the best: --weights last takes the last "
            f"checkpoint, ds train {recipe} --resume continues the run"
        )
