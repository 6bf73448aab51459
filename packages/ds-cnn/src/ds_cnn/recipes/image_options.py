"""What the recipes for images can be told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.options import option
from ds_core.training.run_options import PrecisionOptions, RunOptions

from ds_cnn.images.augmentation import Augmentation, RandomCrop, RandomHorizontalFlip

DATA_SETS = ("digits", "mnist", "fashion_mnist", "cifar10")
IMAGE_SIZE = 32  # of a folder's images, unless --image-size says otherwise


@dataclass
class ImageOptions(RunOptions):
    """The options of every recipe that tells images apart."""

    validation: float = option(
        0.1, "share of the images held out to choose the best weights", minimum=0.01, maximum=0.8
    )
    test: float = option(
        0.1, "share held out for the final test, unless there are test images", minimum=0.01, maximum=0.8
    )
    batch_size: int = option(64, "images of a step", minimum=1)
    evaluate_every: int = option(5, "epochs between evaluations", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.validation + self.test >= 0.9:
            raise UserError(
                f"--validation {self.validation} and --test {self.test} leave less than a tenth of the images"
            )


@dataclass
class DataOptions(PrecisionOptions, ImageOptions):
    """With a choice of data, of augmentation and of precision."""

    dataset: str = option("digits", "what to learn", choices=list(DATA_SETS))
    images: Path | None = option(
        None, "a folder of images of your own, in it one folder for each class, in place of --dataset", may_change=True
    )
    image_size: int | None = option(
        None, f"pixels to which each side of the images in --images is brought (not given: {IMAGE_SIZE})", minimum=1
    )
    grey: bool = option(False, "read --images without their colours")
    skip_faulty: bool = option(False, "leave out files of --images that are no images, instead of stopping")
    folder: Path | None = option(None, "a folder with the files of --dataset, instead of a download", may_change=True)
    shift: int = option(1, "pixels by which training images are shifted at random, in each direction", minimum=0)
    flip: bool = option(False, "mirror training images left to right at random")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.folder is not None:
            raise UserError("--images and --folder contradict each other: which images are they?")
        if self.images is None:
            for flag, given in (
                ("--image-size", self.image_size is not None),
                ("--grey", self.grey),
                ("--skip-faulty", self.skip_faulty),
            ):
                if given:
                    raise UserError(f"{flag} is about the images of --images, which is not given")


def with_data_set(changes: Mapping[str, Mapping[str, Any]]) -> Callable[[dict[str, Any], set[str]], None]:
    """For `with_presets`: the data set says what is not given, unless the images are the user's own."""

    def follow(values: dict[str, Any], given: set[str]) -> None:
        found = {} if values["images"] is not None else changes.get(values["dataset"], {})
        values.update({name: value for name, value in found.items() if name not in given})

    return follow


def shift_and_flip(options: DataOptions, height: int, width: int) -> list[Augmentation]:
    """`--shift` and `--flip` of images of this size.

    Raises:
        UserError: a shift that may leave nothing of an image.
    """
    if options.shift >= min(height, width):
        raise UserError(
            f"--shift {options.shift}: the images have {height} x {width} pixels, expected at most "
            f"{min(height, width) - 1}, so that something of them is left"
        )
    shift: list[Augmentation] = [RandomCrop(padding=options.shift)] if options.shift else []
    return [*shift, RandomHorizontalFlip()] if options.flip else shift
