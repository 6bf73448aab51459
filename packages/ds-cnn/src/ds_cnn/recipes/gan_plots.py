"""The pictures of the recipes that draw images: samples, a walk between them, and both players' losses."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ds_core import UserError, predict
from ds_core.data.generators import keyed_generator
from ds_core.plotting import new_figure, save_figure
from einops import repeat
from torch import Tensor

from ds_cnn.images.read_image import LARGEST_PIXELS
from ds_cnn.images.write_image import image_grid, write_image
from ds_cnn.recipes.gan_options import GenerateOptions
from ds_cnn.recipes.image_format import ImageFormat

# N = images, Z = latent_size, (C, H, W) = an image

_BATCH = 256
_STEPS = 9  # images of a walk, both ends included
_WALKS = 6


def latent(count: int, latent_size: int, *key: int) -> Tensor:
    """Noise (N, Z), a function of the key."""
    return torch.randn(count, latent_size, generator=keyed_generator(*key))


def draw(generator: Any, noise: Tensor) -> Tensor:
    """What a generator makes of noise (N, Z), in evaluation mode: images (N, C, H, W) of 8 bits."""
    like = next(iter(generator.parameters()))
    images: Tensor = predict(generator, torch.split(noise.to(like), _BATCH))
    return of_8_bits(images)


def of_8_bits(images: Tensor) -> Tensor:
    """Images of -1 to 1 as whole numbers of 0 to 255."""
    return ((images.float().cpu() + 1) * 127.5 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def check_size(options: GenerateOptions, images: ImageFormat) -> None:
    """Raise `UserError` if the picture that `ds generate` is asked for is larger than what `ds predict` reads."""
    gap = _gap(options.scale)
    rows = -(-options.count // options.columns)
    height = rows * (images.height * options.scale + gap) + gap
    width = options.columns * (images.width * options.scale + gap) + gap
    if height * width > LARGEST_PIXELS:
        raise UserError(
            f"--count {options.count}, --columns {options.columns} and --scale {options.scale} make a picture of "
            f"{height:,} x {width:,} pixels, expected at most {LARGEST_PIXELS:,} in all: draw fewer or smaller images"
        )


def write_samples(path: Path, images: Tensor, columns: int, scale: int) -> None:
    """Images of 8 bits side by side in a PNG, each pixel `scale` pixels wide."""
    enlarged = repeat(images, "n c h w -> n c (h i) (w j)", i=scale, j=scale)
    write_image(path, image_grid(enlarged, columns, gap=_gap(scale), background=64))


def _gap(scale: int) -> int:
    return max(1, scale // 2)


def write_walks(path: Path, generator: Any, latent_size: int, seed: int, scale: int) -> None:
    """Rows of images between two random ones: the noise goes from one to the other.

    Along an arc, because noise of many numbers has nearly one length, and points of a straight line are shorter.
    """
    ends = latent(2 * _WALKS, latent_size, seed, 1).view(_WALKS, 2, 1, latent_size)
    angle = (torch.arange(_STEPS) * (torch.pi / 2 / (_STEPS - 1))).view(1, _STEPS, 1)
    noise = torch.cos(angle) * ends[:, 0] + torch.sin(angle) * ends[:, 1]  # of length 1 if both are, and orthogonal
    write_samples(path, draw(generator, noise.view(-1, latent_size)), _STEPS, scale)


def plot_losses(
    path: Path, records: Sequence[Mapping[str, Any]], is_generators: Callable[[int], bool], names: tuple[str, str]
) -> None:
    """The loss of each step, one line for each player."""
    figure = new_figure()
    axes = figure.add_subplot()
    for name, turn in zip(names, (False, True), strict=True):
        points = [(r["step"], r["loss"]) for r in records if is_generators(r["step"] - 1) is turn]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, linewidth=0.8, alpha=0.7)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    if axes.has_data():
        axes.legend()
    save_figure(figure, path)
