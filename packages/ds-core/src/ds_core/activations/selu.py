"""The self-normalising unit: ELU, scaled so that mean 0 and variance 1 are a fixed point. Theory: docs/selu.md."""

import torch
from torch import Tensor

from ds_core.activations.elu import elu, elu_with_slope
from ds_core.activations.relu import relu
from ds_core.activations.smooth import SmoothActivation
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form

ALPHA = 1.6732632423543772848170429916717
SCALE = 1.0507009873554804934193349852946


def plain_selu(x: Tensor) -> Tensor:
    """x -> y of the same shape: s x where x > 0, s a (exp(x) - 1) elsewhere."""
    return SCALE * (relu(x) + ALPHA * torch.expm1(torch.clamp_max(x, 0)))  # either of the two terms is 0


def plain_selu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    below = SCALE * ALPHA * torch.exp(torch.clamp_max(x, 0))
    return plain_selu(x), torch.where(x > 0, SCALE, below)  # dy/dx = s [x > 0] + s a exp(x) [x <= 0]       (2)


# The fast pair is ELU's: elu.py says what makes it fast.


@fast_form(plain_selu)
@compilable
def selu(x: Tensor) -> Tensor:
    """x -> y of the same shape: s x where x > 0, s a (exp(x) - 1) elsewhere."""
    return elu(x, ALPHA, SCALE)


@fast_form(plain_selu_with_slope)
@compilable
def selu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    return elu_with_slope(x, ALPHA, SCALE)


class SELU(SmoothActivation):
    """y = s x where x > 0, s a (exp(x) - 1) elsewhere, with a = 1.6733 and s = 1.0507 (Klambauer et al.,
    "Self-Normalizing Neural Networks", 2017, equation 2).

    Twin of torch.nn.SELU, `inplace` left out. Keeps its slope dy/dx.
    """

    def value(self, x: Tensor) -> Tensor:
        return selu(x)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return selu_with_slope(x)
