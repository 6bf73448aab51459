"""What a GAN is trained on, step by step: whose turn it is depends on the number of the batch. Theory: docs/gan.md."""

from typing import Any

import torch
from ds_core.data import Loader, TensorDataset
from ds_core.data.generators import keyed_generator
from torch import Tensor

# N = batch_size, Z = latent_size, (C, H, W) = an image, n = discriminator_steps

_NOISE = 2  # second number of the key: what is drawn for, beside what a Loader draws for


class GANBatches:
    """Batches for `GAN`: n for the discriminator, one for the generator, and so on. A `Batches`.

    Batch number `index` is a function of the seed and `index` alone. Real images come in a new order in each epoch; a
    last batch that is not whole is left out. Every batch has noise of its own.

    Args:
        images: (M, C, H, W), the real ones.
        batch_size: N.
        latent_size: Z, numbers of a noise vector, each drawn from N(0, 1).
        discriminator_steps: n.
        mix: whether batches for the discriminator have the random shares that `WassersteinGAN` asks for.
        real_label: the label of real images in the discriminator's turn; below 1 it is smoothed.
        seed: any whole number of at least 0.

    Raises:
        ValueError: fewer images than a batch has, or a size below 1.
    """

    def __init__(
        self,
        images: Tensor,
        batch_size: int,
        latent_size: int,
        *,
        discriminator_steps: int = 1,
        mix: bool = False,
        real_label: float = 1.0,
        seed: int = 0,
    ) -> None:
        if discriminator_steps < 1 or latent_size < 1:
            raise ValueError(
                f"GANBatches: given discriminator_steps={discriminator_steps} and latent_size={latent_size}, expected "
                "at least 1"
            )
        self.loader = Loader(TensorDataset(images, images), batch_size, seed=seed, drop_last=True)
        self.batch_size = batch_size
        self.latent_size = latent_size
        self.discriminator_steps = discriminator_steps
        self.mix = mix
        self.real_label = real_label
        self.seed = seed
        self._like = images.new_empty(0)

    def is_generators(self, index: int) -> bool:
        """Whether batch `index` is the generator's: the last one of each round of n + 1."""
        return index % (self.discriminator_steps + 1) == self.discriminator_steps

    def batch(self, index: int) -> tuple[Any, Any]:
        """Inputs and target of `GAN`: (noise, real) and the labels (ones, zeros), or noise and ones."""
        generator = keyed_generator(self.seed, _NOISE, index)
        noise = self._to(torch.randn(self.batch_size, self.latent_size, generator=generator))
        ones = self._like.new_ones(self.batch_size, 1)
        if self.is_generators(index):
            return noise, ones
        rounds, turn = divmod(index, self.discriminator_steps + 1)
        real, _ = self.loader.batch(rounds * self.discriminator_steps + turn)
        labels = (ones * self.real_label, torch.zeros_like(ones))
        if not self.mix:
            return (noise, real), labels
        mix = self._to(torch.rand(self.batch_size, *[1] * (real.dim() - 1), generator=generator))
        return (noise, real, mix), labels

    def _to(self, drawn: Tensor) -> Tensor:
        """On the device and in the dtype of the images; drawn on the CPU, so that a seed means the same everywhere."""
        return drawn.to(self._like)
