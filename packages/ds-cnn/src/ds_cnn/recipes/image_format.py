"""What a trained network takes and names: beside options and weights, all that its run folder needs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import UserError
from ds_core.atomic_files import write_atomically
from ds_core.errors import one_line

from ds_cnn.images.normalise import Normalise

IMAGES_FILE = "images.json"


@dataclass(frozen=True)
class ImageFormat:
    """Images of 8 bits (channels, height, width), and the names of their classes.

    Attributes:
        mean, std: of each channel over the training images, from 0 to 255; the network sees (x - mean) / std.
    """

    channels: int
    height: int
    width: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, dtype: torch.dtype | None = None) -> Normalise:
        """Images as the network sees them, in its dtype."""
        return Normalise(self.mean, self.std, dtype)

    def __str__(self) -> str:
        return f"{self.channels} x {self.height} x {self.width}"

    def save(self, folder: Path) -> None:
        """Write `images.json`.

        Raises:
            WriteError: it cannot be written.
        """
        write_atomically(folder / IMAGES_FILE, json.dumps(vars(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "ImageFormat":
        """What `save` has written.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = folder / IMAGES_FILE
        try:
            return cls._from(json.loads(path.read_text("utf-8")))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} does not say what images the network takes: {one_line(repr(error))}") from error

    @classmethod
    def _from(cls, values: Mapping[str, Any]) -> "ImageFormat":
        channels, height, width = (int(values[name]) for name in ("channels", "height", "width"))
        names, mean, std = (tuple(values[name]) for name in ("class_names", "mean", "std"))
        if channels not in (1, 3) or min(height, width) < 1 or len(mean) != channels or not names:
            raise ValueError(f"{channels} x {height} x {width}, {len(mean)} means, {len(names)} classes")
        Normalise(mean, std)
        return cls(channels, height, width, tuple(map(str, names)), mean, std)
