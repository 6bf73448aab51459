"""A folder of images by class as a data set, decoded when they are asked for or all at once. Rules: docs/images.md."""

import hashlib
import math
import os
import sys
from pathlib import Path

import torch
from ds_core import ShapeError, UserError
from ds_core.data import TensorDataset
from torch import Tensor

from ds_cnn.images.conversions import Fit
from ds_cnn.images.image_files import HOW_TO_SKIP, Faulty, ImageFiles, find_image_files
from ds_cnn.images.read_image import LARGEST_PIXELS, ImageError, ImageReader, ReadsImages

# N = images of the folder, n = of a batch, C = channels, H, W = height and width

LARGEST_BYTES = 4 * 2**30
HOW_TO_TAKE_LESS = "take a smaller size, allow more with largest_bytes, or decode them batch by batch with ImageFolder"


class ImageFolder:
    """root/class/image, each decoded when it is asked for: what a `Loader` draws from.

    Nothing is kept in memory, so the folder may be of any size. A `Prefetch` decodes while the step before is taken.

    Args:
        root: a folder with one folder for each class.
        size, channels, fit, largest_pixels: see `ImageReader`.
        faulty: what to do about files that are no images, are damaged or unreadable, and classes without images:
            "refuse" them, naming the first, or "skip" them. To skip, every file is decoded once at the start. To
            refuse, only its beginning is read then; damage further on raises where the image is asked for.

    Attributes:
        class_names: sorted; the class folders' names.
        paths: of the images, sorted by class, folder and name.
        targets: (N,) int64, the number of each one's class.
        skipped: (path, why) of what was left out.

    Raises:
        UserError: no folder, no classes, or nothing in it that can be used.
        ImageError: something faulty, if it is to be refused.
        ValueError: an option out of range.
        MissingPackageError: Pillow is not installed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | tuple[int, int] | None = None,
        *,
        channels: int = 3,
        fit: Fit = "crop",
        faulty: Faulty = "refuse",
        largest_pixels: int = LARGEST_PIXELS,
    ) -> None:
        self.root = Path(root)
        self.reader = ImageReader(size, channels, fit, largest_pixels)
        files = find_image_files(root, faulty)
        files.keep(self.reader.check if faulty == "refuse" else self.reader.read)
        files.drop_empty_classes(self.root)
        self.class_names = tuple(files.class_names)
        self.paths = tuple(files.paths)
        self.targets = torch.tensor(files.targets)
        self.skipped = tuple(files.skipped)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Image (C, H, W) uint8 and class of one file."""
        return self._read(index), int(self.targets[index])

    def rows(self, index: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) uint8 and classes (n,) of a slice, or of the numbers in a tensor (n,).

        Raises:
            ImageError: a file that has become faulty, or is damaged beyond its beginning.
            UserError: images of different sizes, and no `size` for all.
        """
        numbers = range(*index.indices(len(self))) if isinstance(index, slice) else index.tolist()
        images: Tensor | None = None
        for row, number in enumerate(numbers):
            image = self._read(number)
            if images is None:
                images = image.new_empty((len(numbers), *image.shape))
            _check_same_size(images, image, self.paths[numbers[0]], self.paths[number])
            images[row] = image
        if images is None:
            raise ShapeError("ImageFolder: given no numbers, expected at least one image to be asked for")
        return images, self.targets[index]

    def _read(self, number: int) -> Tensor:
        try:
            return self.reader.read(self.paths[number])
        except ImageError as error:
            raise ImageError(f"{error}; {HOW_TO_SKIP}") from error

    def digest(self) -> str:
        """The SHA-256 digest of the classes and of every file's name and length, for `SameData`."""
        digest = hashlib.sha256(repr((self.class_names, self.reader)).encode())
        for path in self.paths:
            digest.update(f"{os.fspath(path.relative_to(self.root))!r} {path.stat().st_size}\n".encode())
        return digest.hexdigest()


class DecodedImages(TensorDataset):
    """Images (N, C, H, W) uint8 and classes (N,) int64 in memory.

    Attributes:
        class_names, paths, skipped: as those of `ImageFolder`.
    """

    def __init__(self, images: Tensor, files: ImageFiles) -> None:
        super().__init__(images, torch.tensor(files.targets))
        self.class_names = tuple(files.class_names)
        self.paths = tuple(files.paths)
        self.skipped = tuple(files.skipped)


def load_image_folder(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    *,
    channels: int = 3,
    fit: Fit = "crop",
    faulty: Faulty = "refuse",
    largest_pixels: int = LARGEST_PIXELS,
    reader: ReadsImages | None = None,
    largest_bytes: int = LARGEST_BYTES,
    progress: bool = True,
) -> DecodedImages:
    """All images of a folder, decoded once.

    Args:
        root, size, channels, fit, faulty, largest_pixels: as those of `ImageFolder`.
        reader: reads the files instead of an `ImageReader` with `size`, `channels`, `fit` and `largest_pixels`.
        largest_bytes: how much memory the images may take together.
        progress: whether their number and what they take are announced on stderr.

    Raises:
        UserError: as `ImageFolder`; images of different sizes and no `size`; more than `largest_bytes`.
        ImageError, ValueError, MissingPackageError: as `ImageFolder`.
    """
    root, reader = Path(root), reader or ImageReader(size, channels, fit, largest_pixels)
    files = find_image_files(root, faulty)
    count, used = len(files.paths), 0
    images, first = None, root
    if reader.shape is not None:
        images = _room_for(count, reader.shape, root, largest_bytes, progress)

    def decode(path: Path) -> None:
        nonlocal images, used, first
        image = reader.read(path)
        if images is None:
            images, first = _room_for(count, image.shape, root, largest_bytes, progress), path
        _check_same_size(images, image, first, path)
        images[used] = image
        used += 1

    files.keep(decode)
    files.drop_empty_classes(root)
    assert images is not None, "some class has an image"
    return DecodedImages(images[:used], files)


def _room_for(count: int, shape: tuple[int, ...], root: Path, largest_bytes: int, progress: bool) -> Tensor:
    """Memory for the images (N, C, H, W), if it is no more than allowed."""
    total = count * math.prod(shape)
    what = f"{count:,} images of {' x '.join(map(str, shape))} bytes take {total / 1e6:,.1f} MB"
    if total > largest_bytes:
        raise UserError(f"{root}: {what}, expected at most {largest_bytes / 1e6:,.1f} MB: {HOW_TO_TAKE_LESS}")
    if progress:
        print(f"{root}: {what}", file=sys.stderr, flush=True)
    return torch.empty((count, *shape), dtype=torch.uint8)


def _check_same_size(images: Tensor, image: Tensor, first: Path, path: Path) -> None:
    if images.shape[1:] != image.shape:
        sizes = [f"{shape[-2]} x {shape[-1]}" for shape in (images.shape, image.shape)]
        raise UserError(f"{first} has {sizes[0]} pixels and {path} has {sizes[1]}: give a size that all shall have")
