"""Checkpoints beside the last one, which a Trainer keeps anyway: the best, and every n-th."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ds_core.atomic_files import write_atomically
from ds_core.errors import UserError
from ds_core.training.callbacks import Best, Callback
from ds_core.training.checkpoint import describe_checkpoint, load_weights
from ds_core.training.history import FINAL

BEST_FILE = "best.safetensors"
EARLIER_BEST_FILE = "earlier-best.safetensors"


class KeepBest(Callback):
    """After each evaluation that is better than all before, save a whole checkpoint, `best.safetensors` in the folder.

    `load_weights(folder / "best.safetensors", model)` takes its weights, `Trainer.resume(path)` in another folder
    continues from there.

    If it is the evaluation at the end of a run that is the best, though none was due there, the best one before it is
    kept in `earlier-best.safetensors`: with more steps, the run takes that back.

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
        self.step: int | None = None  # of the best evaluation
        self.write = write
        self._goes_on = False  # whether a step has been taken since the last end

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if not self._goes_on and trainer.folder is not None:
            trainer.parallel.processes.on_first(lambda: self._take_back(trainer, Path(trainer.folder)))
        self._goes_on = True

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        earlier, final = self.step, metrics.get(FINAL) is True
        self._goes_on = self._goes_on and not final
        if not self.best.improved(metrics):
            return
        folder = _folder(self, trainer)
        if final:
            trainer.parallel.processes.on_first(lambda: _set_aside(folder, earlier))
        self.step = trainer.step
        trainer.save(folder / BEST_FILE)
        trainer.parallel.processes.on_first(lambda: self.write(trainer))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.number, "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best.number, self.step = state["best"], state.get("step")

    def _take_back(self, trainer: Any, folder: Path) -> None:
        """The best evaluation before the last end is the best again, and what `write` writes is of its weights."""
        earlier = folder / EARLIER_BEST_FILE
        if self.step is None or not earlier.exists() or describe_checkpoint(earlier).step != self.step:
            return
        now = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
        try:
            load_weights(earlier, trainer.model)
            self.write(trainer)
        finally:
            trainer.model.load_state_dict(now)
        os.replace(earlier, folder / BEST_FILE)  # last: a run killed before it does it all again


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


def _set_aside(folder: Path, step: int | None) -> None:
    """Keep the best checkpoint, which is of `step`, under another name."""
    best = folder / BEST_FILE
    if step is not None and best.exists() and describe_checkpoint(best).step == step:
        write_atomically(folder / EARLIER_BEST_FILE, lambda temporary: shutil.copyfile(best, temporary))


def _folder(callback: object, trainer: Any) -> Path:
    if trainer.folder is None:
        raise UserError(f"{type(callback).__name__} needs a Trainer with a folder to save in")
    return Path(trainer.folder)


def _step(path: Path) -> int:
    number = path.stem.removeprefix("step-")
    return int(number) if number.isdigit() else -1
