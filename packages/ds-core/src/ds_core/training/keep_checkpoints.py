"""Checkpoints beside the last one, which a Trainer keeps anyway: the best, and every n-th."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ds_core.errors import UserError
from ds_core.training.callbacks import Best, Callback

BEST_FILE = "best.safetensors"


class KeepBest(Callback):
    """After each evaluation that is better than all before, save a whole checkpoint, `best.safetensors` in the folder.

    `load_weights(folder / "best.safetensors", model)` takes its weights, `Trainer.resume(path)` in another folder
    continues from there.

    Args:
        value: which value of `evaluate`.
        largest: whether larger is better.
        write: called after that with the Trainer, to write other files of the best weights, in a format of your own.
            Of several processes the first calls it.
    """

    def __init__(
        self, value: str = "loss", largest: bool = False, write: Callable[[Any], Any] = lambda trainer: None
    ) -> None:
        self.best = Best(self, value, largest)
        self.write = write

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if self.best.improved(metrics):
            trainer.save(_folder(self, trainer) / BEST_FILE)
            trainer.parallel.processes.on_first(lambda: self.write(trainer))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best.number = state["best"]


class KeepEvery(Callback):
    """Every `steps` steps, save a whole checkpoint that later ones don't replace, `step-000500.safetensors`.

    Args:
        steps: how many steps lie between two.
        at_most: how many are kept, the latest; None: all.

    Raises:
        ValueError: a number is less than 1.
    """

    def __init__(self, steps: int, at_most: int | None = None) -> None:
        for name, number in (("steps", steps), ("at_most", at_most)):
            if number is not None and number < 1:
                raise ValueError(f"KeepEvery: given {name}={number}, expected at least 1")
        self.steps = steps
        self.at_most = at_most

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if metrics["step"] % self.steps != 0:
            return
        folder = _folder(self, trainer)
        trainer.save(folder / f"step-{metrics['step']:06d}.safetensors")
        if self.at_most is not None and trainer.parallel.processes.first:
            kept = sorted(folder.glob("step-*.safetensors"), key=_step)
            for path in kept[: -self.at_most]:
                path.unlink(missing_ok=True)


def _folder(callback: object, trainer: Any) -> Path:
    if trainer.folder is None:
        raise UserError(f"{type(callback).__name__} needs a Trainer with a folder to save in")
    return Path(trainer.folder)


def _step(path: Path) -> int:
    number = path.stem.removeprefix("step-")
    return int(number) if number.isdigit() else -1
