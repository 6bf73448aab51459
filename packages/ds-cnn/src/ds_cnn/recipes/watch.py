"""A convolution to watch: window by window, with every product. For the terminal."""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import UserError
from ds_core.options import option
from ds_core.recipes import Command
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.convolutions.plain_convolution import Step, convolution_steps
from ds_cnn.recipes.trained import load_trained

# C = channels, H, W = size of the image, P, Q = size of the feature map, K = kernel size

_SHADES = " .:-=+*#%@"  # from the smallest number to the largest


@dataclass
class WatchOptions:
    """Options of `ds watch FOLDER`."""

    number: int = option(0, "which of the test images", minimum=0)
    filter: int = option(0, "which filter of the first convolution", minimum=0)
    windows: int = option(36, "how many windows to show", minimum=1)
    delay: float = option(0.0, "seconds between two windows", minimum=0, maximum=60)
    weights: str = option("best", "of the best evaluation, or of the last checkpoint", choices=["best", "last"])


def watch_command(run: Any) -> Command:
    """`ds watch` for the recipe of this `ImageRun`, whose network has a layer `conv1`."""
    return Command(
        "watch",
        "watch the first convolution of a test image, window by window",
        WatchOptions,
        lambda folder, options: watch(run, folder, options),
    )


def watch(run: Any, folder: Path, options: WatchOptions) -> None:
    """Show the first convolution of a trained network at work.

    Raises:
        UserError: the folder has no trained network, or there is no such image or filter.
    """
    trained = load_trained(run, folder, options.weights, "cpu")
    images, _ = run(trained.options).read_images().test.tensors
    layer = trained.model.conv1
    for what, given, count in (
        ("number", options.number, len(images)),
        ("filter", options.filter, layer.out_channels),
    ):
        if given >= count:
            raise UserError(f"--{what}: given {given}, expected at most {count - 1}")
    image = trained.normalise(images[options.number : options.number + 1])
    show_convolution(image, layer, options.filter, options.windows, options.delay)


def show_convolution(image: Tensor, layer: Conv2d, filter: int = 0, most: int = 36, delay: float = 0.0) -> None:
    """Print what one filter makes of an image (1, C, H, W): every window, kernel, product and sum, and the map.

    Args:
        layer: without groups, its padding in numbers.
        filter: which of its filters.
        most: how many windows are shown; the map is whole.
        delay: seconds between two windows.
    """
    weight = layer.weight.detach()[filter : filter + 1]
    bias = None if layer.bias is None else layer.bias.detach()[filter : filter + 1]
    steps = convolution_steps(image, weight, bias, layer.stride, layer.padding, layer.dilation)  # type: ignore[arg-type]
    values: dict[tuple[int, ...], float] = {}
    for at_y, group in itertools.groupby(steps, key=lambda step: step.at_y[2:]):
        found = list(group)
        values[at_y] = found[-1].total
        if len(values) <= most:
            print(f"{_window(found, bias)}\n", flush=True)
            time.sleep(delay)
    rows, columns = (1 + max(index[axis] for index in values) for axis in (0, 1))
    feature_map = torch.tensor(list(values.values())).view(rows, columns)
    print(
        f"the image\n{shaded(image[0, 0])}\n\nthe feature map of filter {filter}\n{shaded(feature_map)}\n", flush=True
    )


def _window(steps: list[Step], bias: Tensor | None) -> str:
    """One window: what the filter sees, the filter, their products, and the sum."""
    first, last = steps[0], steps[-1]
    row, column = first.at_y[2:]
    lines = [f"row {row}, column {column} of the feature map"]
    headings = ("window", "kernel", "products")
    for channel, (window, kernel) in enumerate(zip(first.window, first.kernel, strict=True)):
        blocks = (window, kernel, window * kernel)
        width = 8 * window.shape[1]
        if channel == 0:
            lines.append("  ".join(f"{heading:>{width}}" for heading in headings))
        for k in range(window.shape[0]):
            lines.append("  ".join("".join(f"{number:8.3f}" for number in block[k].tolist()) for block in blocks))
    constant = 0.0 if bias is None else float(bias[0])
    products = sum(step.product for step in steps)
    lines.append(f"sum of the products {products:.3f} + bias {constant:.3f} = {last.total:.3f}")
    return "\n".join(lines)


def shaded(image: Tensor) -> str:
    """Numbers (H, W) as characters, two for each, from blank for the smallest to @ for the largest."""
    low, high = float(image.min()), float(image.max())
    span = high - low if high > low else 1.0
    return "\n".join(
        "".join(2 * _SHADES[min(int((number - low) / span * len(_SHADES)), len(_SHADES) - 1)] for number in row)
        for row in image.tolist()
    )
