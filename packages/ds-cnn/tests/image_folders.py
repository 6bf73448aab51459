"""Small folders of images by class, for tests."""

from pathlib import Path

import torch
from ds_cnn import write_image


def stripes(upright, count, size, seed, channels=3):
    """Noisy images (count, channels, size, size) with upright or level stripes."""
    generator = torch.Generator().manual_seed(seed)
    pattern = torch.arange(size).remainder(2).float().expand(channels, size, size)
    pattern = pattern if upright else pattern.transpose(1, 2)
    return (pattern + 0.3 * torch.rand(count, channels, size, size, generator=generator)).clamp(0, 1)


def write_folder(root: Path, count=12, size=8, seed=0):
    """root/level and root/upright, each with `count` images."""
    for number, name in enumerate(("level", "upright")):
        (root / name).mkdir(parents=True)
        for index, image in enumerate(stripes(name == "upright", count, size, 2 * seed + number)):
            write_image(root / name / f"{index}.png", image)
    return root
