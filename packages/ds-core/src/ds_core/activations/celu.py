"""The ELU whose slope has no jump, whatever its alpha. Theory: docs/celu.md."""

import torch
from torch import Tensor

from ds_core.activations.elu import elu, elu_with_slope
from ds_core.activations.relu import relu
from ds_core.activations.smooth import SmoothActivation
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form


def plain_celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x -> y of the same shape: x where x > 0, alpha (exp(x / alpha) - 1) elsewhere."""
    return relu(x) + alpha * torch.expm1(torch.clamp_max(x, 0) / alpha)  # either of the two terms is 0


def plain_celu_with_slope(x: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    slope = torch.exp(torch.clamp_max(x, 0) / alpha)  # dy/dx = [x > 0] + exp(x / alpha) [x <= 0]           (1)
    return plain_celu(x, alpha), slope


# The fast pair is ELU's: elu.py says what makes it fast.


@fast_form(plain_celu)
@compilable
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x -> y of the same shape: x where x > 0, alpha (exp(x / alpha) - 1) elsewhere."""
    return elu(x, alpha, input_scale=1 / alpha)


@fast_form(plain_celu_with_slope)
@compilable
def celu_with_slope(x: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    return elu_with_slope(x, alpha, input_scale=1 / alpha)


class CELU(SmoothActivation):
    """y = x where x > 0, alpha (exp(x / alpha) - 1) elsewhere (Barron, "Continuously Differentiable Exponential
    Linear Units", 2017).

    Twin of torch.nn.CELU, `inplace` left out. Keeps its slope dy/dx.

    Args:
        alpha: what y tends to, negated, as x becomes very negative, and how far from 0 it bends; not 0.

    Raises:
        ValueError: `alpha` is 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if alpha == 0:
            raise ValueError("CELU: given alpha=0, expected another number, as x is divided by it")
        self.alpha = alpha

    def value(self, x: Tensor) -> Tensor:
        return celu(x, self.alpha)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return celu_with_slope(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"
