"""A tiny run of the recipe `miniclip`: its options as words of the command line, and captioned images."""

import json

import numpy as np
from ds_zoo.miniclip.options import MiniCLIPOptions
from PIL import Image

TINY = {
    "vision_layers": 1,
    "vision_dim": 8,
    "vision_heads": 2,
    "text_layers": 1,
    "text_dim": 8,
    "text_heads": 2,
    "projection_dim": 6,
    "image_size": 16,
    "patch_size": 8,
    "batch_size": 4,
    "steps": 4,
    "evaluate_every": 2,
    "evaluate_pairs": 6,
    "threads": 1,
}


def words(**options):
    """The options of a tiny run, with these changes, as words of the command line; None leaves one out."""
    given = {name: value for name, value in {**TINY, **options}.items() if value is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def fine_tuning_words(**options):
    """The same without what a pretrained folder decides."""
    return words(**dict.fromkeys(MiniCLIPOptions.decided), **options)


def write_images(folder, count=20, shift=0):
    """Images of one colour each, in a table metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
    lines = []
    for number in range(count):
        name = list(colours)[(number + shift) % 3]
        pixels = np.zeros((10 + number % 4, 12, 3), np.uint8) + np.array(colours[name], np.uint8) + number
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines.append(json.dumps({"image": f"{number}.png", "text": f"a {name} picture number {number // 2}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder
