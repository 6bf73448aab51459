"""The recipe `cnn`: a small convolutional network that tells images apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import CrossEntropyLoss, Module, UserError
from ds_core.options import option, with_presets
from ds_core.recipes import Recipe
from ds_core.recipes.choices import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from ds_core.testing import Report, report

from ds_cnn.images.augmentation import Augmentation
from ds_cnn.networks.vgg import VGG
from ds_cnn.recipes.image_data import ImageData, read_images
from ds_cnn.recipes.image_format import ImageFormat
from ds_cnn.recipes.image_options import DataOptions, shift_and_flip, with_data_set
from ds_cnn.recipes.image_run import ImageRun
from ds_cnn.recipes.predict import predict_command

# What a data set changes of the defaults, which are for digits
_LARGE = {"batch_size": 128, "evaluate_every": 1}
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "mnist": {**_LARGE, "filters": (16, 32, 64), "convolutions": (1, 2, 2), "epochs": 5, "lr": 5e-3},
    "fashion_mnist": {**_LARGE, "filters": (32, 64, 128), "epochs": 15, "shift": 2, "flip": True},
    "cifar10": {**_LARGE, "filters": (64, 128, 256), "epochs": 30, "shift": 4, "flip": True},
}


@with_presets(BY_DATA_SET, with_data_set(BY_DATA_SET))
@dataclass
class CNNOptions(DataOptions):
    """Options of `ds train cnn`."""

    out: Path = option(Path("runs/cnn"), "the run folder: checkpoint, log, results and plots", may_change=True)

    filters: tuple[int, ...] = option(
        (32, 64), "filters of each stage; between stages the image is halved", minimum=1, maximum=4096
    )
    convolutions: tuple[int, ...] = option(
        (2,),
        "convolutions of each stage, with batch norm and ReLU; one number is for all stages",
        minimum=1,
        maximum=100,
    )
    dropout: float = option(0.2, "share of the last features dropped in training", minimum=0, maximum=0.99)
    epochs: int = option(40, "how often every image is seen", minimum=1, may_change=True)
    optimizer: str = option("adamw", "how steps are taken", choices=list(OPTIMIZERS))
    lr: float = option(3e-3, "learning rate", minimum=0)
    weight_decay: float = option(0.05, "of kernels and weight matrices; times the learning rate with adamw", minimum=0)
    schedule: str = option("cosine", "how the learning rate changes", choices=list(SCHEDULES))
    label_smoothing: float = option(0.05, "share of the uniform distribution in each target", minimum=0, maximum=0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.filters:
            raise UserError("--filters: given none, expected one number at least")
        if len(self.convolutions) not in (1, len(self.filters)):
            raise UserError(
                f"--convolutions: given {len(self.convolutions)} numbers for {len(self.filters)} stages of --filters, "
                "expected one, or one for each stage"
            )


class CNNRun(ImageRun[CNNOptions]):
    """`ds train cnn`."""

    name = "cnn"
    option_class = CNNOptions
    feature_layer = "features"

    @classmethod
    def network(cls, options: CNNOptions, images: ImageFormat) -> Module:
        """3 x 3 convolutions in stages, halving between them, the mean of each feature map, a linear layer."""
        stages = len(options.filters)
        if min(images.height, images.width) < 2**stages:
            raise UserError(
                f"images of {images.height} x {images.width} pixels are too small for --filters of {stages} stages, "
                f"between which they are halved: expected {2**stages} x {2**stages} at least, or fewer stages"
            )
        configuration: list[Any] = []
        counts = options.convolutions * (stages if len(options.convolutions) == 1 else 1)
        for filters, count in zip(options.filters, counts, strict=True):
            configuration += [*(["M"] if configuration else []), *[filters] * count]
        return VGG(configuration, len(images.class_names), images.channels, dropout=options.dropout)

    def read_images(self) -> ImageData:
        return read_images(self.options, self.dtype)

    def augmentations(self) -> Sequence[Augmentation]:
        return shift_and_flip(self.options, self.data.format.height, self.data.format.width)

    def count_steps(self) -> int:
        return self.options.epochs * self.batches.steps_per_epoch

    def length(self) -> str:
        return f"{super().length()} of --epochs {self.options.epochs}"

    def make_criterion(self) -> CrossEntropyLoss:
        return CrossEntropyLoss(label_smoothing=self.options.label_smoothing)

    def make_optimizer(self) -> tuple[Any, Any]:
        options = self.options
        optimizer = make_optimizer(options.optimizer, self.model, options.lr, options.weight_decay)
        warmup_steps = min(100, self.steps // 20)
        return optimizer, make_schedule(options.schedule, optimizer, self.steps, warmup_steps=warmup_steps)

    def next_commands(self) -> list[str]:
        longer = f"train cnn --out {self.typed_folder} --resume --epochs {2 * self.options.epochs}"
        return [*super().next_commands(), longer]


def check() -> Report:
    """`ds check cnn`: every gradient of a small network, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = VGG((2, "M", 3), 3, 1, dropout=0.2, generator=generator)
    x = torch.randn(2, 1, 4, 4, generator=generator)
    return report(model, x, CrossEntropyLoss(label_smoothing=0.1), torch.tensor([2, 0]))


recipe = Recipe(
    name="cnn",
    summary="a small convolutional network: digits, MNIST, CIFAR-10, a folder of images of yours",
    options=CNNOptions,
    train=CNNRun.train,
    commands=(predict_command(CNNRun),),
    check=check,
)
