"""Two networks as one model; the inputs decide whose turn it is. Theory: docs/gan.md."""

from collections.abc import Iterator, Sequence
from typing import Any

from ds_core import Module, no_record
from ds_core.engine.module import own_tensors
from torch import Tensor

from ds_cnn.gan.gradient_penalty import accumulate_penalty, gradient_penalty
from ds_cnn.gan.penalty_rules import penalised_layers

# N = batch, Z = latent_size, (C, H, W) = an image


class GAN(Module):
    """A generator and a discriminator, of which each forward pass trains one.

    Goodfellow et al., "Generative Adversarial Nets", 2014. Given noise and real images it is the discriminator's turn:
    the real images go through it first, then, by themselves, images that the generator makes of the noise with nothing
    recorded. Given noise alone it is the generator's turn: the gradient goes back through the discriminator into the
    generator, and the discriminator's own parameters get none. An optimizer skips parameters without a gradient, so one
    optimizer of both networks moves one player at a time.

    Args:
        generator: noise (N, Z) -> images (N, C, H, W).
        discriminator: images -> logits (N, 1).
    """

    def __init__(self, generator: Any, discriminator: Any) -> None:
        self.generator = generator
        self.discriminator = discriminator

    def forward(self, noise: Tensor, real: Tensor | None = None) -> Any:
        """noise (N, Z) -> f_fake (N, 1); with real images (N, C, H, W) -> (f_real, f_fake)."""
        return self._generator_turn(noise) if real is None else self._discriminator_turn(real, self._unrecorded(noise))

    def backward(self, *dys: Tensor | None, input_gradient: bool = True) -> Any:
        """The gradient of each output -> that of the noise; in the discriminator's turn that of the real images."""
        (stand_ins,) = self.saved()
        if stand_ins is not None:
            with _Replaced(self.discriminator, stand_ins):
                dfake = self.discriminator.backward(dys[0])  # dG = D'(G)^T df_fake                          (3)
            return _back(self.generator, dfake, input_gradient)
        _back(self.discriminator, dys[1] if len(dys) > 1 else None, False)
        return _back(self.discriminator, dys[0], input_gradient)

    def _discriminator_turn(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        f_real = self.discriminator.forward(real)  # f_real = D(x)                                           (1)
        f_fake = self.discriminator.forward(fake)  # f_fake = D(G(z)), G(z) a constant                       (2)
        self.save(None)
        return f_real, f_fake

    def _generator_turn(self, noise: Tensor) -> Tensor:
        fake = self.generator.forward(noise)
        stand_ins = [tensor.detach() for _, _, tensor in _parameters_of(self.discriminator)]
        with _Replaced(self.discriminator, stand_ins):
            f_fake: Tensor = self.discriminator.forward(fake)
        self.save(stand_ins)
        return f_fake

    def _unrecorded(self, noise: Tensor) -> Tensor:
        """Images by a generator that has nothing to learn from them."""
        with no_record():
            fake: Tensor = self.generator.forward(noise)
        return fake


class WassersteinGAN(GAN):
    """`GAN` with a critic, in whose turn a third output is the gradient penalty of each row.

    Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, algorithm 1. The penalty is taken between a real
    and a generated image, at mix real + (1 - mix) fake, after both have gone through the critic.

    Args:
        generator: noise (N, Z) -> images (N, C, H, W).
        discriminator: the critic, images -> (N, 1), made of layers that `PENALTY_RULES` knows.

    Raises:
        TypeError: the critic has a layer without a rule, such as batch norm.
    """

    def __init__(self, generator: Any, discriminator: Any) -> None:
        penalised_layers(discriminator)  # to be refused here
        super().__init__(generator, discriminator)

    def forward(self, noise: Tensor, real: Tensor | None = None, mix: Tensor | None = None) -> Any:
        """noise (N, Z) -> f_fake (N, 1); with images (f_real, f_fake), with mix (N, 1, 1, 1) penalties (N,) too."""
        if real is None or mix is None:
            outputs = super().forward(noise, real)
            self.save(None)
            return outputs
        fake = self._unrecorded(noise)
        f_real, f_fake = self._discriminator_turn(real, fake)
        between = mix * real + (1 - mix) * fake  # x_hat = e x + (1 - e) G(z)                                (4)
        penalties, kept = gradient_penalty(penalised_layers(self.discriminator), between)
        self.save(kept, reads=self.discriminator.parameters())
        return f_real, f_fake, penalties

    def backward(self, *dys: Tensor | None, input_gradient: bool = True) -> Any:
        """As in `GAN`; the gradient of the penalties reaches the critic's weights alone."""
        (kept,) = self.saved()
        if kept is None:
            return super().backward(*dys, input_gradient=input_gradient)
        if len(dys) > 2 and dys[2] is not None:
            accumulate_penalty(dys[2], penalised_layers(self.discriminator), kept)
        return super().backward(*dys[:2], input_gradient=input_gradient)


class _Replaced:
    """Other tensors in place of the parameters of a network, for a while.

    The stand-ins share the parameters' memory and require no gradient. `requires_grad_(False)` would do the same, but
    no compiler takes it inside a step.
    """

    def __init__(self, network: Any, stand_ins: Sequence[Tensor]) -> None:
        self.own = list(_parameters_of(network))
        self.stand_ins = stand_ins

    def __enter__(self) -> None:
        for (layer, name, _), stand_in in zip(self.own, self.stand_ins, strict=True):
            setattr(layer, name, stand_in)

    def __exit__(self, *error: object) -> None:
        for layer, name, tensor in self.own:
            setattr(layer, name, tensor)


def _parameters_of(network: Any) -> Iterator[tuple[Any, str, Tensor]]:
    """Every parameter of a network: the layer that owns it, its name there, and itself."""
    for layer in network.modules():
        for name, tensor in own_tensors(layer, "parameter"):
            yield layer, name, tensor


def _back(network: Any, dy: Tensor | None, input_gradient: bool) -> Any:
    return network.backward(dy) if input_gradient else network.backward(dy, input_gradient=False)
