"""What a run measures, for TensorBoard to draw."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ds_core.errors import MissingPackageError
from ds_core.training.callbacks import Callback
from ds_core.training.history import NO_METRICS


class TensorBoard(Callback):
    """Write every number of the training and evaluation records as `train/loss`, `evaluation/loss` and so on.

    Args:
        folder: where the event files go; None: `tensorboard` in the Trainer's folder.

    Raises:
        MissingPackageError: tensorboard is not installed.
    """

    everywhere = False

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError(
                "TensorBoard needs the package tensorboard, which is not installed: pip install tensorboard"
            ) from error
        self.folder = None if folder is None else Path(folder)
        self._new_writer: Any = SummaryWriter
        self._writer: Any = None

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        self._write(trainer, "train", metrics)

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        self._write(trainer, "evaluation", metrics)
        self._writer.flush()

    def on_fit_end(self, trainer: Any) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, trainer: Any, kind: str, metrics: Mapping[str, Any]) -> None:
        step = metrics["step"]
        if self._writer is None:
            folder = Path(trainer.folder or ".") / "tensorboard" if self.folder is None else self.folder
            # what a run that was killed wrote beyond its checkpoint is hidden, since this one writes it again; if that
            # begins with an evaluation, the step before it stays
            self._writer = self._new_writer(str(folder), purge_step=step + (kind == "evaluation"))
        for name, value in metrics.items():
            if name not in NO_METRICS and value is not None:
                self._writer.add_scalar(f"{kind}/{name}", value, step)
