"""The losses of a GAN's two players: non-saturating, and Wasserstein's. Theory: docs/adversarial_loss.md."""

from typing import Any

import torch
from ds_core import BCEWithLogitsLoss, Module, ShapeError
from ds_core.losses.pointwise import PointwiseLoss
from ds_core.losses.reduction import reduce, reduce_backward
from ds_core.speed.elementwise import Out
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

# N = batch, f = what the discriminator says of an image (a logit, or any number of a critic), t = its label: 1 for real


def wasserstein(x: Tensor, target: Tensor) -> Tensor:
    """x, target of one shape -> losses: -x where the label is 1, x where it is 0."""
    return (1 - 2 * target) * x  # L = (1 - 2 t) f                                          (3)


def wasserstein_backward(
    dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool] = (True, True)
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target -> dx, dtarget."""
    dx = dlosses * (1 - 2 * target)  # df = dL (1 - 2 t)                                                     (4)
    return dx, -2 * dlosses * x if needs[1] else None  # dt = -2 dL f


class CriticLoss(PointwiseLoss):
    """(1 - 2 target) input, the mean over all elements: low if real rows, target 1, get more than the others.

    Args:
        reduction: "mean", "sum", or "none" for the loss of each element.
    """

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return wasserstein(x, target)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, Tensor | None]:
        return wasserstein_backward(dlosses, x, target, needs)


class NonSaturatingLoss(Module):
    """-log D(real) - log(1 - D(fake)) for the discriminator, -log D(fake) for the generator; D = sigmoid(f).

    Goodfellow et al., "Generative Adversarial Nets", 2014, algorithm 1, with the generator's loss of section 3 that has
    a slope where the discriminator is sure. The discriminator's predictions are a tuple (f_real, f_fake) and its target
    the labels of both; the generator's are f_fake alone, and its target is the label that it wants, one.

        loss = NonSaturatingLoss()
        loss((f_real, f_fake), (torch.ones_like(f_real), torch.zeros_like(f_fake)))     # the discriminator
        loss(f_fake, torch.ones_like(f_fake))                                           # the generator

    Each part is a mean over its rows. Labels such as 0.9 in place of 1 smooth them. Keeps predictions and labels.

    Raises:
        ShapeError: from `forward`, if there are not as many labels as predictions.
    """

    def __init__(self) -> None:
        self.of_one: PointwiseLoss = BCEWithLogitsLoss()

    def denominator(self, target: Any) -> Any:
        """What each mean divides by: of the target, or of each part of it."""
        if not isinstance(target, tuple):
            return self.of_one.denominator(target)
        return tuple(self.of_one.denominator(labels) for labels in target)

    def forward(self, input: Any, target: Any, *, denominator: Any = None) -> Tensor:
        """input (N, 1) and labels (N, 1), or a tuple of each -> (); `denominator` is that of a larger batch."""
        if not isinstance(input, tuple) and not isinstance(target, tuple):
            loss: Tensor = self.of_one.forward(input, target, denominator=denominator)
            self.save(1)
            return loss
        if not isinstance(input, tuple) or not isinstance(target, tuple) or len(input) != len(target):
            name = type(self).__name__
            raise ShapeError(
                f"{name}: given {_parts(input)} predicted and {_parts(target)} of labels, expected as many"
            )
        denominators = (None,) * len(target) if denominator is None else denominator
        total = torch.zeros((), dtype=input[0].dtype, device=input[0].device)
        for f, labels, number in zip(input, target, denominators, strict=True):
            total = total + self.of_one.forward(f, labels, denominator=number)  # L = L_real + L_fake        (1)
        self.save(len(input))
        return total

    def backward(self, grad: Tensor | None = None) -> Any:
        """grad (), None for 1 -> the gradient of each prediction, a tuple if they were one."""
        (count,) = self.saved()
        if count == 1:
            return self.of_one.backward(grad)
        return tuple(reversed([self.of_one.backward(grad) for _ in range(count)]))  # dL_real = dL_fake = dL (2)


class WassersteinLoss(NonSaturatingLoss):
    """mean f(fake) - mean f(real) for the critic, -mean f(fake) for the generator, with a gradient penalty.

    Arjovsky et al., "Wasserstein GAN", 2017, algorithm 1; Gulrajani et al., "Improved Training of Wasserstein GANs",
    2017, equation 3. Predictions and targets are those of `NonSaturatingLoss`; a third prediction (N,), which has no
    label, is the penalty of each row (`GradientPenalty`), and `penalty_weight` times its mean is added.

    Args:
        penalty_weight: lambda.

    Raises:
        ValueError: a negative weight.
        ShapeError: from `forward`, if there are not as many labels as predictions.
    """

    def __init__(self, penalty_weight: float = 10.0) -> None:
        if not penalty_weight >= 0:
            raise ValueError(f"WassersteinLoss: given penalty_weight={penalty_weight}, expected at least 0")
        self.of_one = CriticLoss()
        self.penalty_weight = penalty_weight

    def forward(self, input: Any, target: Any, *, denominator: Any = None) -> Tensor:
        """input (N, 1) and labels (N, 1), or a tuple of each; a third input (N,) is the penalty of each row -> ()."""
        if not isinstance(input, tuple) or len(input) != 3:
            loss = super().forward(input, target, denominator=denominator)
            self.save(None, None)
            return loss
        penalties = input[2]
        loss = super().forward(input[:2], target, denominator=denominator)
        count: Tensor | int = penalties.numel()
        if denominator is not None:
            count = denominator[0].to(wide_dtype(penalties))
        mean = reduce(widened(penalties), "mean", count)
        self.save(penalties, count)
        return loss + (self.penalty_weight * mean).to(loss.dtype)  # L = L_real + L_fake + lambda mean P_n   (5)

    def backward(self, grad: Tensor | None = None) -> Any:
        """grad (), None for 1 -> the gradient of each prediction, a tuple if they were one."""
        penalties, count = self.saved()
        if penalties is None:
            return super().backward(grad)
        dmean = reduce_backward(grad, "mean", count, widened(penalties))
        dpenalties = (self.penalty_weight * dmean).to(penalties.dtype).expand(penalties.shape)
        return *super().backward(grad), dpenalties  # dP_n = dL lambda / N                                   (6)

    def extra_repr(self) -> str:
        return f"penalty_weight={self.penalty_weight}"


def _parts(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else "one tensor"
