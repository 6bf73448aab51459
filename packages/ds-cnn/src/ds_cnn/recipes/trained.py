"""A trained network out of its run folder, for the commands that use it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import Module, UserError, load_weights
from ds_core.recipes.finished import options_of_run
from ds_core.training.devices import choose_device
from ds_core.training.keep_checkpoints import BEST_FILE
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import DTYPES, PrecisionOptions
from torch import Tensor

from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.image_options import ImageOptions


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, the images it takes, and the options of its run."""

    model: Any
    format: ImageFormat
    options: Any
    device: torch.device
    dtype: torch.dtype | None

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) of 8 bits as the network sees them, on its device."""
        return self.format.normalise(self.dtype)(images.to(self.device))


def load_trained(run: Any, folder: Path, weights: str, device: str) -> Trained:
    """The network of a run folder.

    Args:
        run: the `ImageRun` of the folder's recipe, which makes the network.
        weights: "best", of the best evaluation, or "last", of the last checkpoint.
        device: as on the command line.

    Raises:
        UserError: a file is missing or damaged, or the weights are another network's.
    """
    kind: type[ImageOptions] = run.option_class
    options = options_of_run(folder, kind)
    images = ImageFormat.load(folder)
    path = folder / (BEST_FILE if weights == "best" else CHECKPOINT_FILE)
    if not path.exists():
        other = "--weights last" if weights == "best" and (folder / CHECKPOINT_FILE).exists() else "ds train --resume"
        raise UserError(f"{folder} has no {path.name} yet, so no {weights} weights: try {other}")
    dtype = DTYPES[options.dtype] if isinstance(options, PrecisionOptions) else None
    model: Module = run.network(options, images)
    model.to(device=choose_device(device), dtype=dtype)
    load_weights(path, model)
    return Trained(model.eval(), images, options, choose_device(device), dtype)
