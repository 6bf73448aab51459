"""The Gaussian error linear unit x Phi(x), exact and by tanh. Theory: docs/gelu.md."""

import math

import torch
from torch import Tensor

from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.activations.smooth import SmoothActivation
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form

# 2 sqrt(2 / pi) (x + 0.044715 x^3) = x (A + B x^2)
A = 2 * math.sqrt(2 / math.pi)
B = 0.044715 * A
# At -FAR and FAR the gate is 0 and 1 in every dtype. Farther out x^2 would overflow, and 0 times infinity is NaN.
FAR = 32


def plain_gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x -> y of the same shape, y = x Phi(x)."""
    if approximate == "none":
        return x * ((1 + torch.erf(x / math.sqrt(2))) / 2)  # Phi(x) = (1 + erf(x / sqrt(2))) / 2           (2)
    cut = torch.clamp(x, -FAR, FAR)
    return x * plain_sigmoid(cut * (A + B * cut * cut))  # y = x s, s = sigmoid(z), z = x (A + B x^2)       (4)


def plain_gelu_with_slope(x: Tensor, approximate: str = "none") -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape."""
    if approximate == "none":
        phi = (1 + torch.erf(x / math.sqrt(2))) / 2  # (2)
        density = torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return x * phi, phi + x * density  # dy/dx = Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)                  (3)
    cut = torch.clamp(x, -FAR, FAR)
    s = plain_sigmoid(cut * (A + B * cut * cut))  # (4)
    # dy/dx = s + x s (1 - s) (A + 3 B x^2)                                                                 (5)
    return x * s, s + cut * s * (1 - s) * (A + 3 * B * cut * cut)


# The fast pair takes exponentials as powers of 2, folds constants and sums into one pass (addcmul), computes value and
# slope from one gate, and works in chunks that stay in the cache.


@fast_form(plain_gelu)
@compilable
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x -> y of the same shape."""
    (y,) = elementwise(_normal_value if approximate == "none" else _tanh_value, x)
    return y


@fast_form(plain_gelu_with_slope)
@compilable
def gelu_with_slope(x: Tensor, approximate: str = "none") -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one erf or exp less than one after the other."""
    y, slope = elementwise(_normal_value_and_slope if approximate == "none" else _tanh_value_and_slope, x, results=2)
    return y, slope


def _normal_value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, _normal_gate(x), out=out[0]),)


def _normal_value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    gate = _normal_gate(x)
    y = torch.mul(x, gate, out=out[0])
    density = torch.addcmul(_constant(0, x), x, x, value=-0.5 * LOG2_E).exp2_()  # exp(-x^2 / 2)
    return y, torch.addcmul(gate, x, density, value=1 / math.sqrt(2 * math.pi), out=out[1])


def _tanh_value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (torch.mul(x, _logistic_gate(x), out=out[0]),)


def _tanh_value_and_slope(x: Tensor, out: Out) -> tuple[Tensor, Tensor]:
    gate = _logistic_gate(x)
    y = torch.mul(x, gate, out=out[0])
    change = torch.addcmul(y, y, gate, value=-1)  # x s (1 - s), which is 0 wherever x^2 is large
    slope = torch.add(gate, change, alpha=A, out=out[1])
    return y, slope.addcmul_(change.mul_(x), x, value=3 * B)


def _normal_gate(x: Tensor) -> Tensor:
    """What x is multiplied by: Phi(x)."""
    t = x * math.sqrt(0.5)
    t = torch.erf(t, out=reuse(t))
    return torch.add(_constant(0.5, x), t, alpha=0.5, out=reuse(t))


def _logistic_gate(x: Tensor) -> Tensor:
    """What x is multiplied by: s = sigmoid(z) with z = x (A + B x^2)."""
    if torch.is_grad_enabled():
        x = torch.clamp(x, -FAR, FAR)  # only autograd multiplies an infinite x^2 by 0
    t = torch.addcmul(_constant(-A * LOG2_E, x), x, x, value=-B * LOG2_E)
    t = torch.mul(t, x, out=reuse(t))  # -z in base 2
    return logistic(t)


def _constant(value: float, x: Tensor) -> Tensor:
    """A number to begin a sum with, in the one pass of addcmul or add."""
    return torch.full((), value, dtype=x.dtype, device=x.device)


class GELU(SmoothActivation):
    """y = x Phi(x), Phi the distribution function of the standard normal (Hendrycks and Gimpel, 2016).

    Twin of torch.nn.GELU. Keeps its slope dy/dx.

    Args:
        approximate: "none", or "tanh" for the paper's y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Raises:
        ValueError: `approximate` is neither.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: given approximate={approximate!r}, expected "none" or "tanh"')
        self.approximate = approximate

    def value(self, x: Tensor) -> Tensor:
        return gelu(x, self.approximate)

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return gelu_with_slope(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"
