"""Image files as a training set keeps them: of one size, still of 8 bits. Theory: docs/vision/image_processor.md."""

import os
from dataclasses import dataclass

from ds_cnn import ImageReader
from torch import Tensor

from ds_zoo.vision.image_processor import ImageProcessor

# C = channels, h, w = height and width of what comes out


@dataclass(frozen=True)
class SizedImages:
    """Reads image files as `ImageProcessor.read` does, but leaves rescaling and normalising to be done later.

    Args:
        processor: says how images are resized and cropped, and whether they are grey.
    """

    processor: ImageProcessor

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, h, w) of every image; None if it depends on the image."""
        size = self.processor.output_size
        return None if size is None else (self.processor.channels, *size)

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """The image as (C, h, w) uint8.

        Raises:
            ImageError: a file that is missing, unreadable, damaged, too large or no image.
            MissingPackageError: Pillow is not installed.
        """
        return self.processor.sized(ImageReader(channels=self.processor.channels).read(path))
