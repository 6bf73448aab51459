"""The recipe `wgan`: DCGAN's networks with a critic in place of the discriminator, held by a gradient penalty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core.options import option, with_presets
from ds_core.recipes import Recipe

from ds_cnn.gan.adversarial_loss import WassersteinLoss
from ds_cnn.gan.dcgan import dcgan_discriminator, dcgan_generator
from ds_cnn.gan.gan import WassersteinGAN
from ds_cnn.recipes.gan_checks import Reports, scale_weights
from ds_cnn.recipes.gan_options import GANOptions, with_data_set
from ds_cnn.recipes.gan_run import GANRun, generate_command
from ds_cnn.recipes.image_format import ImageFormat

# What a data set changes of the defaults, which are for digits
_LARGE = {
    **{"latent_size": 100, "rounds": 10000, "judge_epochs": 2, "critic_steps": 5},
    **{"lr_discriminator": 1e-4, "lr_generator": 1e-4},
}
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "mnist": _LARGE,
    "fashion_mnist": {**_LARGE, "rounds": 20000},
    "cifar10": {**_LARGE, "rounds": 50000, "judge_epochs": 5},
}


@with_presets(BY_DATA_SET, with_data_set(BY_DATA_SET))
@dataclass
class WGANOptions(GANOptions):
    """Options of `ds train wgan`."""

    out: Path = option(Path("runs/wgan"), "the run folder: checkpoint, log, results and pictures", may_change=True)
    rounds: int = option(4000, "steps of the generator", minimum=1, may_change=True)
    lr_discriminator: float = option(1e-3, "Adam's learning rate for the critic", minimum=0)
    lr_generator: float = option(1e-3, "Adam's learning rate for the generator", minimum=0)
    beta1: float = option(0.0, "Adam's average of gradients", minimum=0, maximum=0.999999)
    beta2: float = option(0.9, "Adam's average of their squares", minimum=0, maximum=0.999999)
    critic_steps: int = option(3, "steps of the critic before each of the generator", minimum=1, maximum=1000)
    penalty: float = option(10.0, "weight of the gradient penalty, which keeps the critic's slope near 1", minimum=0)


class WGANRun(GANRun[WGANOptions]):
    """`ds train wgan`."""

    name = "wgan"
    options_class = WGANOptions
    player = "critic"

    @classmethod
    def networks(cls, options: Any, images: ImageFormat) -> WassersteinGAN:
        return WassersteinGAN(
            dcgan_generator(options.latent_size, images.channels, images.height, options.width),
            dcgan_discriminator(images.channels, images.height, options.width, norm=None),
        )

    @property
    def discriminator_steps(self) -> int:
        return self.options.critic_steps

    def make_criterion(self) -> WassersteinLoss:
        return WassersteinLoss(self.options.penalty)

    def batch_options(self) -> dict[str, Any]:
        return {"mix": True}


def check() -> Reports:
    """`ds check wgan`: every gradient of two small networks, the penalty's included, in the turn of either."""
    generator = torch.Generator().manual_seed(0)
    model = WassersteinGAN(
        dcgan_generator(2, 1, 4, 1, generator=generator),
        dcgan_discriminator(1, 4, 1, norm=None, generator=generator),
    )
    scale_weights(model, 20)
    noise, real = torch.randn(3, 2, generator=generator), torch.randn(3, 1, 4, 4, generator=generator)
    mix = torch.rand(3, 1, 1, 1, generator=generator)
    return Reports.of_turns(model, WassersteinLoss(), (noise, real, mix))


recipe = Recipe(
    name="wgan",
    summary="a Wasserstein GAN with gradient penalty: digits, MNIST, Fashion-MNIST, CIFAR-10",
    options=WGANOptions,
    train=WGANRun.train,
    commands=(generate_command(WGANRun),),
    check=check,
)
