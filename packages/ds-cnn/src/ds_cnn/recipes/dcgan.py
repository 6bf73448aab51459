"""The recipe `dcgan`: two convolutional networks, one draws images, the other tells them from real ones."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core.options import option, with_presets
from ds_core.recipes import Recipe

from ds_cnn.gan.adversarial_loss import NonSaturatingLoss
from ds_cnn.gan.dcgan import dcgan_discriminator, dcgan_generator
from ds_cnn.gan.gan import GAN
from ds_cnn.recipes.gan_checks import Reports, scale_weights
from ds_cnn.recipes.gan_options import GANOptions, with_data_set
from ds_cnn.recipes.gan_run import GANRun, generate_command
from ds_cnn.recipes.image_format import ImageFormat

# What a data set changes of the defaults, which are for digits
_LARGE = {
    **{"latent_size": 100, "batch_size": 128, "rounds": 5000, "judge_epochs": 2},
    **{"lr_discriminator": 2e-4, "lr_generator": 2e-4},
}
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "mnist": _LARGE,
    "fashion_mnist": {**_LARGE, "rounds": 10000},
    "cifar10": {**_LARGE, "rounds": 20000, "judge_epochs": 5},
}


@with_presets(BY_DATA_SET, with_data_set(BY_DATA_SET))
@dataclass
class DCGANOptions(GANOptions):
    """Options of `ds train dcgan`."""

    out: Path = option(Path("runs/dcgan"), "the run folder: checkpoint, log, results and pictures", may_change=True)
    real_label: float = option(
        0.9, "the label of real images in the discriminator's loss; below 1 it is smoothed", minimum=0.5, maximum=1
    )


class DCGANRun(GANRun[DCGANOptions]):
    """`ds train dcgan`."""

    name = "dcgan"
    options_class = DCGANOptions

    @classmethod
    def networks(cls, options: Any, images: ImageFormat) -> GAN:
        return GAN(
            dcgan_generator(options.latent_size, images.channels, images.height, options.width),
            dcgan_discriminator(images.channels, images.height, options.width),
        )

    def make_criterion(self) -> NonSaturatingLoss:
        return NonSaturatingLoss()

    def batch_options(self) -> dict[str, Any]:
        return {"real_label": self.options.real_label}


def check() -> Reports:
    """`ds check dcgan`: every gradient of two small networks, in the turn of either."""
    generator = torch.Generator().manual_seed(0)
    model = GAN(dcgan_generator(2, 1, 4, 1, generator=generator), dcgan_discriminator(1, 4, 1, generator=generator))
    scale_weights(model, 20)
    noise, real = torch.randn(3, 2, generator=generator), torch.randn(3, 1, 4, 4, generator=generator)
    return Reports.of_turns(model, NonSaturatingLoss(), (noise, real))


recipe = Recipe(
    name="dcgan",
    summary="two networks that teach each other to draw: digits, MNIST, Fashion-MNIST, CIFAR-10",
    options=DCGANOptions,
    train=DCGANRun.train,
    commands=(generate_command(DCGANRun),),
    check=check,
)
