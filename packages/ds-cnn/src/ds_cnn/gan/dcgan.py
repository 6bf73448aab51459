"""The networks of DCGAN: a generator that grows images, a discriminator that shrinks them. Theory: docs/dcgan.md."""

from collections.abc import Callable
from typing import Any

import torch
from ds_core import Flatten, LeakyReLU, ReLU, Sequential, Tanh, Unflatten

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.convolutions.conv_transpose import ConvTranspose2d
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d

# N = batch, Z = latent_size, C = channels of the images, H = image_size, W = width: channels next to the image

Norm = Callable[[int], Any]


def dcgan_generator(
    latent_size: int, channels: int, image_size: int, width: int, *, generator: torch.Generator | None = None
) -> Sequential:
    """Noise (N, Z) -> images (N, C, H, H) of -1 to 1.

    Radford, Metz and Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks", 2016. One transposed convolution makes the smallest map, and each of the others doubles it: 2 -> 4 -> 8,
    7 -> 14 -> 28, 4 -> 8 -> 16 -> 32. Weights are drawn by `dcgan_initialise`.

    Args:
        width: W, the channels before the last layer; each layer towards the noise has twice as many.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: the image's side is no multiple of 4, or a size is below 1.
    """
    smallest, doublings = _plan("dcgan_generator", image_size, latent_size=latent_size, channels=channels, width=width)
    maps = width << (doublings - 1)
    layers: list[Any] = [
        Unflatten(1, (latent_size, 1, 1)),
        ConvTranspose2d(latent_size, maps, smallest, bias=False),
        BatchNorm2d(maps),
        ReLU(),
    ]
    for _ in range(doublings - 1):
        layers += [ConvTranspose2d(maps, maps // 2, 4, 2, 1, bias=False), BatchNorm2d(maps // 2), ReLU()]
        maps //= 2
    layers += [ConvTranspose2d(maps, channels, 4, 2, 1), Tanh()]
    return dcgan_initialise(Sequential(*layers), generator)


def dcgan_discriminator(
    channels: int,
    image_size: int,
    width: int,
    *,
    norm: Norm | None = BatchNorm2d,
    generator: torch.Generator | None = None,
) -> Sequential:
    """Images (N, C, H, H) -> logits (N, 1): above 0 for what it takes to be real.

    The generator's mirror image: strided convolutions in place of pooling, LeakyReLU of slope 0.2. Weights are drawn by
    `dcgan_initialise`.

    Args:
        width: W, the channels after the first layer; each further layer has twice as many.
        norm: makes the normalisation of each layer but the first and the last, from its number of channels. None for
            the critic of WGAN-GP, which must have none over the batch: convolutions then have a bias.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: the image's side is no multiple of 4, or a size is below 1.
    """
    smallest, halvings = _plan("dcgan_discriminator", image_size, channels=channels, width=width)
    layers: list[Any] = [Conv2d(channels, width, 4, 2, 1), LeakyReLU(0.2)]
    maps = width
    for _ in range(halvings - 1):
        layers.append(Conv2d(maps, 2 * maps, 4, 2, 1, bias=norm is None))
        layers += [LeakyReLU(0.2)] if norm is None else [norm(2 * maps), LeakyReLU(0.2)]
        maps *= 2
    layers += [Conv2d(maps, 1, smallest), Flatten()]
    return dcgan_initialise(Sequential(*layers), generator)


@torch.no_grad()
def dcgan_initialise(network: Sequential, generator: torch.Generator | None = None) -> Sequential:
    """Draw weights from N(0, 0.02), of norms from N(1, 0.02), biases 0; returns the network.

    The paper says it of all weights; the norms' mean of 1 is that of the authors' code.
    """
    for layer in network.modules():
        for name, tensor in layer.named_parameters(recurse=False):
            if name == "weight":
                tensor.normal_(1.0 if tensor.dim() == 1 else 0.0, 0.02, generator=generator)
            else:
                tensor.zero_()
    return network


def _plan(name: str, image_size: int, **sizes: int) -> tuple[int, int]:
    """The side of the smallest map, and how often it is doubled: at least twice, and down to 7 or less."""
    for what, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: given {what}={size}, expected at least 1")
    if image_size < 4 or image_size % 4:
        raise ValueError(f"{name}: given image_size={image_size}, expected a multiple of 4")
    smallest, doublings = image_size // 4, 2
    while smallest % 2 == 0 and smallest > 4:
        smallest, doublings = smallest // 2, doublings + 1
    return smallest, doublings
