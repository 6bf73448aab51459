"""`ds predict FOLDER --image FILE`: the classes of the user's own images."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import UserError, predict
from ds_core.activations.softmax import softmax
from ds_core.options import option
from ds_core.recipes import Command
from ds_core.recipes.results import table
from ds_core.training.run_options import MOST_THREADS
from torch import Tensor

from ds_cnn.images.image_files import visible
from ds_cnn.images.read_image import FORMATS, ImageError, ImageReader, ReadsImages
from ds_cnn.networks.grad_cam import grad_cam
from ds_cnn.recipes.image_plots import plot_grad_cam
from ds_cnn.recipes.messages import check_picture, typed
from ds_cnn.recipes.trained import Trained, load_trained

_BATCH = 256
DRAWN = 8  # images in a picture of Grad-CAM


@dataclass
class ClassifyOptions:
    """Which images to name the classes of, and with which weights; the options of a recipe's `predict` inherit it."""

    image: tuple[Path, ...] = option((), "image files, of any size; colours or grey become what the network takes")
    images: Path | None = option(None, "a folder: every image in it, and in the folders in it")
    top: int = option(3, "how many of the likeliest classes to name", minimum=1)
    invert: bool = option(False, "exchange light and dark: for dark digits on white paper, if light ones were learned")
    skip_faulty: bool = option(False, "leave out files that are no images, instead of stopping")
    weights: str = option("best", "of the best evaluation, or of the last checkpoint", choices=["best", "last"])
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1, maximum=MOST_THREADS)

    def __post_init__(self) -> None:
        if not self.image and self.images is None:
            raise UserError("predict of which image? give --image FILE, several of them, or --images FOLDER")


@dataclass
class PredictOptions(ClassifyOptions):
    """Options of `ds predict FOLDER` for a run that tells images apart."""

    grad_cam: Path | None = option(
        None, f"a PNG file to draw where the network sees the class (Grad-CAM), of the first {DRAWN} images"
    )
    fit: str = option(
        "crop", "what becomes of other proportions: the middle, or all of it, distorted", choices=["crop", "squash"]
    )
    layer: str = option("", "whose feature maps Grad-CAM weighs, by name (not given: the last ones)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer and self.grad_cam is None:
            raise UserError("--layer is about the picture of --grad-cam, which is not given")
        if self.grad_cam is not None:
            check_picture("--grad-cam", self.grad_cam)


def predict_command(run: Any) -> Command:
    """`ds predict` for the recipe of this `ImageRun`."""
    return Command(
        "predict",
        "name the classes of images",
        PredictOptions,
        lambda folder, options: predict_images(run, folder, options),
    )


def predict_images(run: Any, folder: Path, options: PredictOptions) -> None:
    """Print the likeliest classes of every image, with their probabilities.

    Raises:
        UserError: the folder has no trained network, an image cannot be used, or there is no such layer.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    trained = load_trained(run, folder, options.weights, options.device)
    size = (trained.format.height, trained.format.width)
    reader = ImageReader(size, trained.format.channels, options.fit)  # type: ignore[arg-type]
    paths, images = read_files(reader, options)
    shown = slice(0, DRAWN)
    if options.grad_cam is not None:
        try:
            found = grad_cam(trained.model, trained.normalise(images[shown]), layer=options.layer or run.feature_layer)
        except ValueError as error:  # no such layer, or one without feature maps
            raise UserError(f"--layer: {error}") from error
    print_classes(trained, paths, images, options.top)
    if options.grad_cam is not None:
        plot_grad_cam(
            options.grad_cam, images[shown], found, trained.format.class_names, [path.name for path in paths[shown]]
        )
        print(f"\ndrawn in {options.grad_cam}")


def print_classes(trained: Trained, paths: list[Path], images: Tensor, top: int) -> None:
    """Print a table of images (N, C, H, W) of 8 bits: the `top` likeliest classes and their probabilities."""
    logits = predict(trained.model, (trained.normalise(part) for part in torch.split(images, _BATCH)))
    probabilities, classes = softmax(logits.float(), 1).sort(1, descending=True)
    names = trained.format.class_names
    count = min(top, len(names))
    headings = ["image", "class", "probability"]
    for place in range(2, count + 1):
        headings += [f"{place}.", "probability"]
    rows: list[list[Any]] = []
    for row, path in enumerate(paths):
        likeliest = zip(classes[row, :count].tolist(), probabilities[row, :count].tolist(), strict=True)
        rows.append([str(path), *(cell for number, share in likeliest for cell in (names[number], f"{share:.4f}"))])
    print(table(headings, rows))


def read_files(reader: ReadsImages, options: ClassifyOptions) -> tuple[list[Path], Tensor]:
    """The files that are images, and what the reader makes of them (N, C, H, W), of 8 bits.

    Raises:
        UserError: a file cannot be used, or none is left.
    """
    paths, images, faulty = [], [], 0
    for path in [*options.image, *(_below(options.images) if options.images is not None else [])]:
        try:
            images.append(reader.read(path))
            paths.append(path)
        except ImageError as error:
            if not options.skip_faulty:
                raise typed(error) from error
            faulty += 1
            print(f"ds: note: {typed(error)}", file=sys.stderr)
    if not images:
        raise UserError(
            f"{options.images} has no images in it, or in the folders in it"
            if options.images is not None and not faulty
            else "no image is left: none of the files can be used"
        )
    stacked = torch.stack(images)
    return paths, 255 - stacked if options.invert else stacked


def _below(folder: Path) -> list[Path]:
    """The files in a folder and below it that are named like images."""
    try:
        children = visible(folder)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    found: list[Path] = []
    for child in children:
        if child.is_dir() and not child.is_symlink():
            found += _below(child)
        elif child.suffix.lower() in FORMATS:
            found.append(child)
    return found
