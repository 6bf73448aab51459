"""From image files to what a model looks at, as preprocessor_config.json says it.

Theory: docs/vision/image_processor.md.
"""

import json
import math
import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_cnn import ImageReader
from ds_cnn.images.read_image import LARGEST_PIXELS
from ds_core import CheckpointError, ShapeError
from ds_core.atomic_files import write_atomically
from torch import Tensor

from ds_zoo.vision.image_steps import ExactSize, ShortestEdge, center_crop, resize
from ds_zoo.vision.processor_file import DEFAULTS, FILE, kind_of, options_of, read_fields

# B = batch, C = channels, H, W = height and width of an image, h, w = of what comes out

__all__ = ["FILE", "ExactSize", "ImageProcessor", "ShortestEdge", "check_image_size"]

Channels = tuple[float, ...] | float


@dataclass(frozen=True)
class ImageProcessor:
    """Images of 8 bits -> `pixel_values`: resized, cropped around their centre, rescaled, normalised, in this order.

    Args:
        size: None: images stay as large as they are.
        resample: Pillow's number of the filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
        crop_size: (h, w) of the part around the centre that is taken, with zeros around an image that is smaller.
            None: all of it.
        rescale_factor: what pixels are multiplied by; None: they stay 0 to 255.
        image_mean, image_std: what is then subtracted, and what the rest is divided by: three numbers, for red, green
            and blue, or one for all; a tuple of a single number is for grey images; None, both: nothing.
        kind: transformers' name of such a processor, for the file.

    Raises:
        ValueError: an option out of range.
    """

    size: ExactSize | ShortestEdge | None = None
    resample: int = 2
    crop_size: tuple[int, int] | None = None
    rescale_factor: float | None = 1 / 255
    image_mean: Channels | None = 0.5
    image_std: Channels | None = 0.5
    kind: str = "ViTImageProcessor"

    def __post_init__(self) -> None:
        sides = {} if self.size is None else dict(self.size.fields())
        if self.crop_size is not None:
            sides |= {"crop_size height": self.crop_size[0], "crop_size width": self.crop_size[1]}
        for side, length in sides.items():
            if not isinstance(length, int) or isinstance(length, bool) or length < 1:
                raise ValueError(f"{side} is {length!r}, expected a whole number of pixels, at least 1")
        if not isinstance(self.resample, int) or isinstance(self.resample, bool) or self.resample not in range(6):
            raise ValueError(f"resample is {self.resample!r}, expected the number of one of Pillow's filters, 0 to 5")
        if self.rescale_factor is not None and not _is_number(self.rescale_factor):
            raise ValueError(f"rescale_factor is {self.rescale_factor!r}, expected a number")
        if (self.image_mean is None) != (self.image_std is None):
            raise ValueError(
                f"image_mean is {self.image_mean!r} and image_std {self.image_std!r}, expected both or neither"
            )
        for name in ("image_mean", "image_std"):
            object.__setattr__(self, name, _of_each_channel(name, getattr(self, name)))
        if len({len(of_each) for of_each in (self.image_mean, self.image_std) if isinstance(of_each, tuple)}) > 1:
            raise ValueError(
                f"image_mean is {self.image_mean} and image_std {self.image_std}, expected numbers for as many channels"
            )
        if self.kind not in DEFAULTS:
            raise ValueError(f"kind is {self.kind!r}, expected one of {list(DEFAULTS)}")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "ImageProcessor":
        """Read `preprocessor_config.json` of a folder (or the processor_config.json that holds the same fields).

        Raises:
            CheckpointError: it is missing or damaged, or asks for what this class does not do; the field is named.
        """
        path, given = read_fields(Path(folder))
        try:
            return cls(**options_of(given, kind_of(given, path.parent)))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json`, which transformers' AutoImageProcessor reads; the folder must exist.

        Raises:
            WriteError: it cannot be written.
        """
        fields: dict[str, Any] = {
            "image_processor_type": self.kind,
            "do_convert_rgb": self.channels == 3,
            "do_resize": self.size is not None,
            "resample": self.resample,
            "do_center_crop": self.crop_size is not None,
            "do_rescale": self.rescale_factor is not None,
            "do_normalize": self.image_mean is not None,
        }
        if self.size is not None:
            fields["size"] = self.size.fields()
        if self.crop_size is not None:
            fields["crop_size"] = {"height": self.crop_size[0], "width": self.crop_size[1]}
        if self.rescale_factor is not None:
            fields["rescale_factor"] = self.rescale_factor
        if self.image_mean is not None:
            fields |= {"image_mean": self.image_mean, "image_std": self.image_std}
        write_atomically(Path(folder) / FILE, (json.dumps(fields, indent=2) + "\n").encode())

    @property
    def output_size(self) -> tuple[int, int] | None:
        """(h, w) of whatever comes out; None if it depends on the image."""
        if self.crop_size is not None:
            return self.crop_size
        return (self.size.height, self.size.width) if isinstance(self.size, ExactSize) else None

    @property
    def channels(self) -> int:
        """C: 3, or 1 if the images are grey."""
        return len(self.image_mean) if isinstance(self.image_mean, tuple) else 3

    def read(self, path: str | os.PathLike[str], *, largest_pixels: int = LARGEST_PIXELS) -> Tensor:
        """An image file -> pixel_values (C, h, w): upright, opaque, in colours or greys of 8 bits, then as `__call__`.

        Raises:
            ImageError: a file that is missing, unreadable, damaged, too large or no image.
            MissingPackageError: Pillow is not installed.
        """
        return self(ImageReader(channels=self.channels, largest_pixels=largest_pixels).read(path))

    def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """uint8 images (C, H, W), (B, C, H, W) or a list of (C, H, W) -> float32 (C, h, w) or (B, C, h, w).

        Raises:
            ShapeError: another shape or dtype, no image, or images that come out in different sizes.
            MissingPackageError: an image is to be resized, and Pillow is not installed.
        """
        if isinstance(images, Tensor):
            return self._process(images)
        processed = [self._process(image) for image in images]
        sizes = sorted({f"{image.shape[-2]} x {image.shape[-1]}" for image in processed})
        if len(sizes) != 1:
            given = f"images that come out as {', '.join(sizes)}" if sizes else "no image"
            raise ShapeError(f"ImageProcessor: given {given}, expected one size for all: set size or crop_size")
        return torch.stack(processed)

    def sized(self, images: Tensor) -> Tensor:
        """uint8 (C, H, W) or (B, C, H, W), resized and cropped, still of 8 bits: (C, h, w) or (B, C, h, w).

        Raises:
            ShapeError: another shape or dtype, or no image.
            MissingPackageError: an image is to be resized, and Pillow is not installed.
        """
        dim, channels = images.dim(), self.channels
        if images.dtype != torch.uint8 or dim not in (3, 4) or images.shape[-3] != channels or not images.numel():
            raise ShapeError(
                f"ImageProcessor: given {images.dtype} of shape {tuple(images.shape)}, expected torch.uint8 of "
                f"({channels}, H, W) or (B, {channels}, H, W)"
            )
        if self.size is not None:
            images = resize(images, *self.size.of(images.shape[-2], images.shape[-1]), self.resample)
        if self.crop_size is not None:
            images = center_crop(images, *self.crop_size)
        return images

    def _process(self, images: Tensor) -> Tensor:
        """(..., C, H, W) -> (..., C, h, w)."""
        images = self.sized(images)
        # Wide once and then narrow, as transformers does, so that the last bit is the same
        pixels = images.float() if self.rescale_factor is None else (images.double() * self.rescale_factor).float()
        if self.image_mean is None:
            return pixels
        mean, std = (torch.tensor(of_each)[:, None, None].to(pixels) for of_each in (self.image_mean, self.image_std))
        return (pixels - mean) / std


def check_image_size(processor: ImageProcessor, image_size: int, folder: str | Path) -> None:
    """Raise `CheckpointError` if the processor makes images of another size than a model takes.

    Args:
        image_size: sides of the square images of the model, as its config.json says.
        folder: of the model, for the message.
    """
    made = processor.output_size
    if made == (image_size, image_size):
        return
    given = "images of different sizes" if made is None else f"images of {made[0]} x {made[1]}"
    raise CheckpointError(
        f"{Path(folder) / FILE} makes {given}, but the model takes {image_size} x {image_size} (image_size in "
        "config.json): correct one of the two files"
    )


def _of_each_channel(name: str, given: Any) -> tuple[float, ...] | None:
    if given is None:
        return None
    of_each = tuple(given) if isinstance(given, (tuple, list)) else (given,) * 3
    if len(of_each) not in (1, 3) or not all(map(_is_number, of_each)) or (name == "image_std" and 0 in of_each):
        raise ValueError(f"{name} is {given!r}, expected three numbers or one{', not 0' * (name == 'image_std')}")
    return of_each


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
