"""One image file as a tensor of 8 bits. What becomes of which kind of file: docs/images.md."""

import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from ds_core import UserError
from ds_core.errors import needs_extra, one_line
from torch import Tensor

from ds_cnn.images.conversions import Fit, of_8_bits, on_white, resized, upright

if TYPE_CHECKING:
    from PIL import Image

# C = channels, H, W = height and width

# What names of image files end with. Pillow reads more, some of it by starting other programs (EPS does)
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".png": "PNG",
    ".pnm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
LARGEST_PIXELS = 100_000_000  # 300 MB while it is decoded
HOW_TO_ALLOW = "largest_pixels allows more"
_pillows_limit = threading.Lock()


class ImageError(UserError):
    """A file that cannot be used as an image; the message names it and says why."""


class ReadsImages(Protocol):
    """What makes a tensor of an image file: an `ImageReader`, or whatever resizes in another way."""

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of every image; None if it depends on the image."""

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """The image as (C, H, W) uint8; raises `ImageError` for a file that cannot be used."""


@dataclass(frozen=True)
class ImageReader:
    """How image files become tensors (C, H, W).

    Args:
        size: (height, width), or one number for both; None: as large as the image is.
        channels: 3 for red, green and blue, 1 for grey.
        fit: how an image of other proportions than `size` gets them: "crop" takes the largest part around its centre
            that has them, "squash" takes all of it and distorts it.
        largest_pixels: how many an image may have; it protects from small files that decode to an enormous image.

    Raises:
        ValueError: an option out of range.
    """

    size: int | tuple[int, int] | None = None
    channels: int = 3
    fit: Fit = "crop"
    largest_pixels: int = LARGEST_PIXELS

    def __post_init__(self) -> None:
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        if sides is not None and (len(sides) != 2 or min(sides) < 1):
            raise ValueError(f"ImageReader: given size={self.size}, expected (height, width) of at least 1, or None")
        if self.channels not in (1, 3):
            raise ValueError(f"ImageReader: given channels={self.channels}, expected 1 (grey) or 3 (colour)")
        if self.fit not in ("crop", "squash"):
            raise ValueError(f'ImageReader: given fit={self.fit!r}, expected "crop" or "squash"')
        if self.largest_pixels < 1:
            raise ValueError(f"ImageReader: given largest_pixels={self.largest_pixels}, expected at least 1")

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of every image; None if they are as large as they are."""
        if self.size is None:
            return None
        return (self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size))

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """The image as (C, H, W) uint8.

        Raises:
            ImageError: a file that is missing, unreadable, damaged, too large or no image.
            MissingPackageError: Pillow is not installed.
        """
        with self._opened(Path(path)) as image:
            image.load()
            image = on_white(of_8_bits(upright(image)))
            if self.shape is not None:
                image = resized(image, *self.shape[1:], self.fit)
            image = image.convert("RGB" if self.channels == 3 else "L")
            pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
            return pixels.view(image.height, image.width, self.channels).permute(2, 0, 1).contiguous()

    def check(self, path: str | os.PathLike[str]) -> None:
        """Raise as `read` does, for what can be seen without decoding the pixels: all but damage further on."""
        with self._opened(Path(path)):
            pass

    @contextmanager
    def _opened(self, path: Path) -> Iterator["Image.Image"]:
        """The image before it is decoded. Whatever goes wrong inside is an `ImageError`."""
        with needs_extra("images", "reading images", package="ds-cnn"):
            from PIL import Image, UnidentifiedImageError
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for somebody to write into it
                raise ImageError(f"{path} is not a file")
            if status.st_size == 0:
                raise ImageError(f"{path} is empty (0 bytes), expected an image")
            with path.open("rb") as file:
                with _without_pillows_limit():
                    image = Image.open(file, formats=sorted(set(FORMATS.values())))
                if image.width * image.height > self.largest_pixels:
                    raise ImageError(
                        f"{path} has {image.width} x {image.height} pixels, expected at most {self.largest_pixels} in "
                        f"all; {HOW_TO_ALLOW}"
                    )
                yield image
        except (UserError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            formats = ", ".join(sorted(set(FORMATS.values())))
            raise ImageError(f"{path} is not an image in one of the formats {formats}") from error
        except OSError as error:
            if error.errno is None:  # Pillow's own
                raise ImageError(f"{path} cannot be decoded: {one_line(error)}") from error
            raise ImageError(f"cannot read {path}: {error.strerror}") from error
        except Exception as error:  # damaged files make decoders raise whatever there is
            raise ImageError(f"{path} cannot be decoded: {one_line(error) or type(error).__name__}") from error


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow's own limit of pixels, a global number, is off, because `largest_pixels` is asked for in its place."""
    from PIL import Image

    with _pillows_limit:
        kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = kept


def read_image(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    *,
    channels: int = 3,
    fit: Fit = "crop",
    largest_pixels: int = LARGEST_PIXELS,
) -> Tensor:
    """One image file as (C, H, W) uint8. Args, errors: as those of `ImageReader` and its `read`."""
    return ImageReader(size, channels, fit, largest_pixels).read(path)
