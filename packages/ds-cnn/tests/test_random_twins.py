"""At least 60 draws of arguments, shapes and memory orders a class against torch.nn, where a grid has fewer."""

import random

import ds_cnn
import pytest
import torch
from ds_core.testing import check_twin

DRAWS = 60


def image(draw, axes, *, channels=None, batch=(1, 3), least=1, most=4):
    """A shape (N, C, *S)."""
    sizes = [draw.randint(least, most) for _ in range(axes)]
    return [draw.randint(*batch), draw.randint(1, 3) if channels is None else channels, *sizes]


def implementation(draw):
    return {"implementation": draw.choice(["vectorized", "vectorized", "loops"])}


def adaptive_pool(draw, axes):
    shape = image(draw, axes, most=9)
    return ({"output_size": draw.randint(1, 11)}, shape if draw.random() < 0.7 else shape[1:])


def norm(draw, axes, unbatched):
    channels = draw.randint(1, 3)
    arguments = {
        "num_features": channels,
        "eps": draw.choice([1e-5, 1e-2, 1.0]),
        "momentum": draw.choice([None, 0.0, 0.1, 0.7, 1.0]),
        "affine": draw.random() < 0.5,
        "track_running_stats": draw.random() < 0.5,
    }
    shape = image(draw, axes, channels=channels, batch=(2, 3), least=2, most=3)
    return arguments, shape[1:] if unbatched and draw.random() < 0.3 else shape


def dropout(draw, axes):
    """What is drawn differs from the twin's, so that p is 0 or 1, or the layer evaluates."""
    return {"p": draw.choice([0, 0.0, 0.3, 1, 1.0])}, image(draw, axes, batch=(0, 3), most=3)


def shuffle(draw, up):
    factor, before = draw.randint(1, 3), [draw.randint(1, 2) for _ in range(draw.randint(0, 2))]
    channels, height, width = (draw.randint(1, 3) for _ in range(3))
    small = [channels * factor**2, height, width]
    shape = small if up else [channels, height * factor, width * factor]
    return {"upscale_factor" if up else "downscale_factor": factor}, before + shape


def pad(draw, axes, kind):
    """Within what the mode takes: a reflection is shorter than the axis, a turn no longer than it."""
    shape = image(draw, axes, least=2, most=3)
    most = {"Reflection": 1, "Circular": 2}.get(kind, 3)
    least = 0 if kind in ("Reflection", "Circular") else -1
    sides = tuple(draw.randint(least, most) for _ in range(2 * axes))
    value = {"value": draw.choice([0.0, -1.5, 3])} if kind == "Constant" else {}
    outer = shape[2:]
    kept = all(size + sum(sides[2 * axis : 2 * axis + 2]) > 0 for axis, size in enumerate(reversed(outer)))
    padding = sides if kept else draw.randint(0, most)
    return {"padding": padding, **value}, shape if draw.random() < 0.7 else shape[1:]


CLASSES = {
    "AdaptiveAvgPool1d": lambda draw: adaptive_pool(draw, 1),
    "BatchNorm3d": lambda draw: norm(draw, 3, unbatched=False),
    "InstanceNorm1d": lambda draw: norm(draw, 1, unbatched=True),
    "InstanceNorm3d": lambda draw: norm(draw, 3, unbatched=True),
    "Dropout1d": lambda draw: dropout(draw, 1),
    "Dropout2d": lambda draw: dropout(draw, 2),
    "Dropout3d": lambda draw: dropout(draw, 3),
    "PixelShuffle": lambda draw: shuffle(draw, up=True),
    "PixelUnshuffle": lambda draw: shuffle(draw, up=False),
    **{
        f"{kind}Pad{axes}d": lambda draw, kind=kind, axes=axes: pad(draw, axes, kind)
        for kind in ("Constant", "Zero", "Reflection", "Replication", "Circular")
        for axes in (1, 2, 3)
    },
}
WITHOUT_LOOPS = ("Dropout", "PixelShuffle", "PixelUnshuffle")


@pytest.mark.parametrize("name", CLASSES)
def test_drawn_cases(name):
    draw, compared = random.Random(name), 0
    torch.manual_seed(draw.randint(0, 10**6))
    while compared < DRAWS:
        arguments, shape = CLASSES[name](draw)
        ours, twin = getattr(ds_cnn, name), getattr(torch.nn, name)
        x = torch.randn(shape, dtype=torch.float64)
        if draw.random() < 0.3:  # another order in memory
            x = x.transpose(0, -1).contiguous().transpose(0, -1)
        drops = name.startswith("Dropout") and 0 < arguments["p"] < 1
        modes = ["eval"] if drops else [draw.choice(["train", "eval"])]
        more = {} if name.startswith(WITHOUT_LOOPS) else implementation(draw)
        check_twin(ours(**arguments, **more), twin(**arguments), x, modes=modes)
        compared += 1
