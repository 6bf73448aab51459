"""The images of a recipe: a data set by name or a folder of the user's, split."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from ds_core import UserError
from ds_core.data import TensorDataset, load, split
from ds_core.training.same_data import digest_of
from torch import Tensor

from ds_cnn.images.image_folder import load_image_folder
from ds_cnn.images.normalise import Normalise
from ds_cnn.images.read_image import ImageReader, ReadsImages
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.image_options import IMAGE_SIZE, DataOptions
from ds_cnn.recipes.messages import typed

# N = images, n = of a batch, C = channels, H, W = height and width

_BATCH = 256  # images that are evaluated together


@dataclass(frozen=True)
class ImageData:
    """Training, validation and test images (N, C, H, W) of 8 bits, and their classes (N,).

    Attributes:
        source: the data set's name, or the folder.
        format: what the images are, and what brings them to mean 0 and variance 1.
        dtype: of what the network sees; None: the default one.
        digest: of the training images, for `SameData`.
    """

    source: str
    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    format: ImageFormat
    dtype: torch.dtype | None
    digest: str

    def normalise(self, images: Tensor) -> Tensor:
        """Images as the network sees them."""
        return self.format.normalise(self.dtype)(images)

    def batches(self, part: TensorDataset, most: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """(images, classes) of the first `most` rows, as the network sees them, for `evaluate` and `predict`."""
        images, classes = (tensor[:most] for tensor in part.tensors)
        pairs = zip(torch.split(images, _BATCH), torch.split(classes, _BATCH), strict=True)
        return [(self.normalise(some), of_them) for some, of_them in pairs]

    def to(self, device: torch.device) -> "ImageData":
        """The same images on another device."""
        train, validation, test = (
            TensorDataset(*(tensor.to(device) for tensor in part.tensors))
            for part in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)


def data_set(
    name: str, folder: Path | None, validation: float, test: float, seed: int, dtype: torch.dtype | None
) -> ImageData:
    """A data set by name, split by the seed where no test images were published.

    Raises:
        UserError: files that cannot be had or read.
    """
    # digits are published with values of 0 to 16, and become 0 to 255 as all others
    of_sixteen = name == "digits"
    kind = torch.float32 if of_sixteen else torch.uint8
    found = load(name, folder=folder, validation=validation, test=test, seed=seed, dtype=kind)

    def of_8_bits(part: TensorDataset) -> TensorDataset:
        images, classes = part.tensors
        return TensorDataset((images * 255 + 0.5).floor().to(torch.uint8) if of_sixteen else images, classes)

    parts = [of_8_bits(part) for part in (found.train, found.validation, found.test)]
    return _data(name, parts, found.class_names or (), dtype)


def read_images(options: DataOptions, dtype: torch.dtype | None) -> ImageData:
    """The images that the options name.

    Raises:
        UserError: files that cannot be had or read, or a folder in which there is nothing to tell apart.
    """
    if options.images is not None:
        return image_folder(options.images, options, dtype)
    shares = (options.validation, options.test)
    return data_set(options.dataset, options.folder, *shares, options.seed, dtype)


def image_folder(
    root: Path, options: DataOptions, dtype: torch.dtype | None, reader: ReadsImages | None = None
) -> ImageData:
    """A folder of images by class, split by the seed.

    Args:
        reader: reads the files; None: an `ImageReader` of the size and channels that the options name.

    Raises:
        UserError: a folder or an image that cannot be used, or too few classes or images.
    """
    reader = reader or ImageReader(options.image_size or IMAGE_SIZE, 1 if options.grey else 3)
    try:
        found = load_image_folder(root, faulty="skip" if options.skip_faulty else "refuse", reader=reader)
    except UserError as error:
        raise typed(error) from error
    _, classes = found.tensors
    names = found.class_names
    if len(names) < 2:
        raise UserError(f"{root} has images of one class alone, {names[0]!r}, expected a folder for each of two")
    members = torch.bincount(classes, minlength=len(names))
    rarest = int(members.argmin())
    if int(members[rarest]) < 3:
        raise UserError(
            f"{root / names[rarest]} has {int(members[rarest])} image(s), expected 3 at least, one each for training, "
            "validation and test"
        )
    shares = (1 - options.validation - options.test, options.validation, options.test)
    try:
        parts = split(TensorDataset(*found.tensors), shares, seed=options.seed, stratify=classes)
    except ValueError as error:  # too few images for three parts
        raise UserError(f"{root}: {error}") from error
    skipped = f" without {len(found.skipped)} faulty file(s)" if found.skipped else ""
    return _data(f"{root}{skipped}", parts, names, dtype)


def _data(
    source: str,
    parts: list[TensorDataset] | tuple[TensorDataset, ...],
    names: tuple[str, ...],
    dtype: torch.dtype | None,
) -> ImageData:
    train, validation, test = parts
    images, classes = train.tensors
    fitted = Normalise.fit(images)
    channels, height, width = images.shape[1:]
    taken = ImageFormat(channels, height, width, tuple(names), fitted.mean, fitted.std)
    return ImageData(source, train, validation, test, taken, dtype, digest_of(images, classes))
