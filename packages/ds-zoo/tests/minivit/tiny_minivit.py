"""Tiny runs of the recipe `minivit`, and small folders of images by class."""

import torch
from ds_cnn import write_image
from ds_zoo.minivit.options import MiniViTOptions

TINY = {
    "patch_size": 2,
    "num_layers": 1,
    "num_heads": 2,
    "embed_dim": 8,
    "batch_size": 8,
    "epochs": 2,
    "evaluate_every": 1,
    "image_size": 8,
}


def words(**options):
    """The options of a tiny run, with these changes, as words of the command line; None leaves one out."""
    given = {name: value for name, value in {**TINY, **options}.items() if value is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def fine_tuning_words(**options):
    """The same without what a pretrained folder decides."""
    return words(**dict.fromkeys(MiniViTOptions.decided), **options)


def stripes(upright, count, size, seed, channels=3):
    """Noisy images (count, channels, size, size) with upright or level stripes."""
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.arange(size).remainder(2).float().expand(channels, size, size)
    pattern = pattern if upright else pattern.transpose(1, 2)
    return (pattern + 0.3 * torch.rand(count, channels, size, size, generator=generator)).clamp(0, 1)


def write_folder(root, count=12, size=8, seed=0):
    """root/level and root/upright, each with `count` images."""
    for number, name in enumerate(("level", "upright")):
        (root / name).mkdir(parents=True)
        for index, image in enumerate(stripes(name == "upright", count, size, 2 * seed + number)):
            write_image(root / name / f"{index}.png", image)
    return root
