"""Steps from an image of any size to one that a model takes. Theory: docs/vision/image_processor.md."""

from dataclasses import dataclass

import numpy as np
import torch
from ds_core.errors import needs_extra
from torch import Tensor

# H, W = height and width of an image, h, w = of what comes out


@dataclass(frozen=True)
class ExactSize:
    """Every image gets this size; one of other proportions is distorted."""

    height: int
    width: int

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of an image (H, W)."""
        return self.height, self.width

    def fields(self) -> dict[str, int]:
        """As preprocessor_config.json has it."""
        return {"height": self.height, "width": self.width}


@dataclass(frozen=True)
class ShortestEdge:
    """The shorter side of every image gets this length; proportions are kept."""

    length: int

    def of(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of an image (H, W); the longer side is rounded down."""
        longer = int(self.length * max(height, width) / min(height, width))
        return (longer, self.length) if width <= height else (self.length, longer)

    def fields(self) -> dict[str, int]:
        """As preprocessor_config.json has it."""
        return {"shortest_edge": self.length}


def resize(images: Tensor, height: int, width: int, resample: int) -> Tensor:
    """(..., C, H, W) uint8 -> (..., C, h, w), by Pillow; C is 3, or 1 for grey.

    Args:
        resample: Pillow's number of the filter.

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    if tuple(images.shape[-2:]) == (height, width):  # Pillow merely copies such an image
        return images
    if images.dim() == 4:
        return torch.stack([resize(image, height, width, resample) for image in images])
    with needs_extra("images", "resizing images", package="ds-cnn"):
        from PIL import Image
    pixels = images[0] if len(images) == 1 else images.permute(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels.cpu()))
    resized = Image.Image.resize(image, (width, height), Image.Resampling(resample))
    channels_last = torch.from_numpy(np.array(resized)).view(height, width, -1)
    return channels_last.permute(2, 0, 1).contiguous().to(images.device)


def center_crop(images: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W) -> (..., h, w): the part around the centre, with zeros around an image that is smaller.

    If an odd number of rows is cut off, one more goes below; if one is added, one more comes above. Columns likewise.
    """
    for dimension, length in ((-2, height), (-1, width)):
        missing = length - images.shape[dimension]
        if missing <= 0:
            images = images.narrow(dimension, -missing // 2, length)
            continue
        shape = list(images.shape)
        shape[dimension] = length
        padded = images.new_zeros(shape)
        padded.narrow(dimension, (missing + 1) // 2, length - missing).copy_(images)
        images = padded
    return images
