"""The recipe `resnet`: residual networks for small images, trained as their paper does. Figures: docs/cnn_recipes.md.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015, section 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import SGD, CrossEntropyLoss, Flatten, Linear, Module, MultiStepLR, Sequential, UserError
from ds_core.options import option, with_presets
from ds_core.recipes import Recipe
from ds_core.testing import Report, report

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.images.augmentation import Augmentation
from ds_cnn.networks.residual_block import BasicBlock
from ds_cnn.networks.resnet_cifar import CifarResNet, SubsampledShortcut
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d
from ds_cnn.pooling.adaptive_avg_pool import AdaptiveAvgPool2d
from ds_cnn.recipes.image_data import ImageData, read_images
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.image_options import DataOptions, shift_and_flip, with_data_set
from ds_cnn.recipes.image_run import ImageRun
from ds_cnn.recipes.predict import predict_command

# What a data set changes of the defaults, which are for digits. That of CIFAR-10 is the paper's
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "mnist": {"steps": 4000, "shift": 2, "evaluate_every": 1},
    "fashion_mnist": {"depth": 20, "steps": 16000, "shift": 2, "flip": True, "evaluate_every": 1},
    "cifar10": {"depth": 20, "steps": 64_000, "shift": 4, "flip": True, "evaluate_every": 1},
}
_SMALLEST = 8  # two halvings leave 2 x 2


@with_presets(BY_DATA_SET, with_data_set(BY_DATA_SET))
@dataclass
class ResNetOptions(DataOptions):
    """Options of `ds train resnet`."""

    out: Path = option(Path("runs/resnet"), "the run folder: checkpoint, log, results and plots", may_change=True)

    depth: int = option(8, "layers with weights", choices=[8, 14, 20, 32, 44, 56, 110])
    steps: int = option(
        600,
        "optimizer steps; the learning rate is divided by 10 at a half and at three quarters of them",
        minimum=1,
        may_change=True,
    )
    batch_size: int = option(128, "images of a step", minimum=1)
    lr: float = option(0.1, "first learning rate", minimum=0)
    momentum: float = option(0.9, "share of the step before in each step", minimum=0, maximum=0.9999)
    weight_decay: float = option(1e-4, "of all parameters, as in the paper", minimum=0)


class ResNetRun(ImageRun[ResNetOptions]):
    """`ds train resnet`."""

    name = "resnet"
    option_class = ResNetOptions
    feature_layer = "layer3"

    @classmethod
    def network(cls, options: ResNetOptions, images: ImageFormat) -> Module:
        """Stages of 16, 32 and 64 channels, the second and third at half the size of the one before."""
        if min(images.height, images.width) < _SMALLEST:
            raise UserError(
                f"images of {images.height} x {images.width} pixels are too small for a ResNet, which halves them "
                f"twice: expected {_SMALLEST} x {_SMALLEST} at least"
            )
        return CifarResNet(options.depth, len(images.class_names), images.channels)

    def read_images(self) -> ImageData:
        return read_images(self.options, self.dtype)

    def augmentations(self) -> Sequence[Augmentation]:
        return shift_and_flip(self.options, self.data.format.height, self.data.format.width)

    def count_steps(self) -> int:
        return self.options.steps

    def make_optimizer(self) -> tuple[Any, Any]:
        options = self.options
        optimizer = SGD(
            self.model.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        return optimizer, MultiStepLR(optimizer, [max(1, self.steps // 2), max(1, 3 * self.steps // 4)])

    def describe(self) -> str:
        return f"ResNet-{self.options.depth}: {super().describe()}"

    def next_commands(self) -> list[str]:
        longer = f"train resnet --out {self.typed_folder} --resume --steps {2 * self.options.steps}"
        return [*super().next_commands(), longer]


def small_resnet(generator: torch.Generator | None = None) -> Sequential:
    """What the recipe's networks are made of, at one and two channels: x (N, 1, H, W) -> (N, 2)."""
    return Sequential(
        Conv2d(1, 1, 3, padding=1, bias=False, generator=generator),
        BatchNorm2d(1),
        BasicBlock(1, 2, 2, downsample=SubsampledShortcut(1, 2, 2), generator=generator),
        AdaptiveAvgPool2d(1),
        Flatten(),
        Linear(2, 2, generator=generator),
    )


def check() -> Report:
    """`ds check resnet`: every gradient of a small one, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 4, 4, generator=generator)
    return report(small_resnet(generator), x, CrossEntropyLoss(), torch.tensor([1, 0]))


recipe = Recipe(
    name="resnet",
    summary="a residual network for small images, by its paper's recipe: digits, CIFAR-10, a folder of yours",
    options=ResNetOptions,
    train=ResNetRun.train,
    commands=(predict_command(ResNetRun),),
    check=check,
)
