"""The recipe `cnn-loops`: a tiny network of which every product is one turn of a Python loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import AdamW, CrossEntropyLoss, Flatten, Module, ReLU, Sequential
from ds_core.options import option
from ds_core.recipes import Recipe
from ds_core.testing import Report, report

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.networks.tap import layer_named
from ds_cnn.pooling.max_pool import MaxPool2d
from ds_cnn.recipes.image_data import ImageData, data_set
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.image_options import ImageOptions
from ds_cnn.recipes.image_run import ImageRun
from ds_cnn.recipes.predict import predict_command
from ds_cnn.recipes.watch import show_convolution, watch_command

_SMOOTHED = 10  # steps over which the last losses are averaged


@dataclass
class CNNLoopsOptions(ImageOptions):
    """Options of `ds train cnn-loops`."""

    out: Path = option(Path("runs/cnn-loops"), "the run folder: checkpoint, log, results and plots", may_change=True)
    batch_size: int = option(8, "images of a step", minimum=1)
    evaluate_every: int = option(25, "steps between evaluations", minimum=1)
    filters: int = option(4, "filters of the first convolution", minimum=1, maximum=64)
    steps: int = option(100, "optimizer steps", minimum=1, may_change=True)
    lr: float = option(0.03, "learning rate", minimum=0)
    measured: int = option(30, "images of each part that are measured: the loops take their time here too", minimum=1)
    watch: bool = option(False, "before training, show one convolution window by window", may_change=True)


def loop_network(filters: int, classes: int, generator: torch.Generator | None = None) -> Sequential:
    """Two convolutions and a pooling, each in loops: x (N, 1, 8, 8) -> logits (N, classes).

    The second convolution's window is what is left of the image, so that its outputs are the logits.
    """
    loops: dict[str, Any] = {"implementation": "loops"}
    return Sequential(
        {
            "conv1": Conv2d(1, filters, 3, generator=generator, **loops),  # (N, F, 6, 6)
            "relu": ReLU(),
            "pool": MaxPool2d(2, **loops),  # (N, F, 3, 3)
            "conv2": Conv2d(filters, classes, 3, generator=generator, **loops),  # (N, classes, 1, 1)
            "flatten": Flatten(),
        }
    )


class CNNLoopsRun(ImageRun[CNNLoopsOptions]):
    """`ds train cnn-loops`."""

    name = "cnn-loops"
    option_class = CNNLoopsOptions
    feature_layer = "conv1"  # the maps of conv2 are of one number

    @classmethod
    def network(cls, options: CNNLoopsOptions, images: ImageFormat) -> Module:
        return loop_network(options.filters, len(images.class_names))

    def read_images(self) -> ImageData:
        options = self.options
        return data_set("digits", None, options.validation, options.test, options.seed, None)

    def count_steps(self) -> int:
        return self.options.steps

    @property
    def most_measured(self) -> int:
        return self.options.measured

    def steps_between_evaluations(self) -> int:
        return self.options.evaluate_every

    def make_optimizer(self) -> tuple[Any, Any]:
        return AdamW(self.model.parameters(), lr=self.options.lr, weight_decay=0.0), None

    def describe(self) -> str:
        filters, classes = self.options.filters, len(self.data.format.class_names)
        first, second = 6 * 6 * 9 * filters, 9 * filters * classes
        # the image needs no gradient, so that conv1 has one gradient less
        return (
            f"{super().describe()}; of an image {first + second:,} products in forward, {first + 2 * second:,} in "
            "backward, one by one"
        )

    def before_training(self) -> None:
        if self.options.watch:
            image = self.data.normalise(self.data.train.tensors[0][:1])
            show_convolution(image, layer_named(self.model, "conv1"))

    def report(self) -> Mapping[str, Any]:
        losses = [record["loss"] for record in self.trainer.history.training]
        first, last = losses[0], sum(losses[-_SMOOTHED:]) / len(losses[-_SMOOTHED:])
        print(f"loss of a batch: {first:.3f} in the first step, {last:.3f} in the mean of the last {_SMOOTHED}\n")
        return {**super().report(), "first loss": first, "last loss": last}

    def next_commands(self) -> list[str]:
        longer = f"train cnn-loops --out {self.typed_folder} --resume --steps {2 * self.options.steps}"
        return [f"watch {self.typed_folder}", *super().next_commands(), longer]


def check() -> Report:
    """`ds check cnn-loops`: every gradient of a small network, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = loop_network(1, 2, generator)
    x = torch.randn(1, 1, 8, 8, generator=generator)
    return report(model, x, CrossEntropyLoss(), torch.tensor([1]))


recipe = Recipe(
    name="cnn-loops",
    summary="a tiny convolutional network trained by Python loops, to watch and to step through: digits",
    options=CNNLoopsOptions,
    train=CNNLoopsRun.train,
    commands=(predict_command(CNNLoopsRun), watch_command(CNNLoopsRun)),
    check=check,
)
