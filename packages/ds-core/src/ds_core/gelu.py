"""The Gaussian error linear unit x Phi(x), exact and by tanh. Theory: docs/gelu.md."""

import math

import torch
from torch import Tensor

from ds_core.compiled import compilable
from ds_core.exponential import exponential
from ds_core.module import Module
from ds_core.precision import widened
from ds_core.trace import recording, reuse

# 2 sqrt(2 / pi) (x + 0.044715 x^3) = x (A + B x^2)
A = 2 * math.sqrt(2 / math.pi)
B = 0.044715 * A


@compilable
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x -> y of the same shape."""
    wide = widened(x)
    return (wide * _gate(wide, approximate)).to(x.dtype)


@compilable
def gelu_with_slope(x: Tensor, approximate: str = "none") -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape: together they take one erf or exp less than one after the other."""
    wide = widened(x)
    gate = _gate(wide, approximate)
    y = wide * gate
    slope = _normal_slope(wide, gate) if approximate == "none" else _logistic_slope(wide, gate, y)
    return y.to(x.dtype), slope.to(x.dtype)


def gelu_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope of `gelu_with_slope` -> dx, all of one shape."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


def _gate(x: Tensor, approximate: str) -> Tensor:
    """What x is multiplied by: Phi(x), or sigmoid(x (A + B x^2))."""
    if approximate == "none":
        t = x * math.sqrt(0.5)
        t = torch.erf(t, out=reuse(t))
        t = torch.mul(t, 0.5, out=reuse(t))
        return torch.add(t, 0.5, out=reuse(t))  # Phi(x) = (1 + erf(x / sqrt(2))) / 2                      (2)
    t = x * x
    t = torch.mul(t, -B, out=reuse(t))
    t = torch.add(t, -A, out=reuse(t))
    t = torch.mul(t, x, out=reuse(t))  # -z, z = x (A + B x^2)
    if torch.is_grad_enabled():
        # exp may overflow in the value, 1 / (1 + inf) = 0, but not in autograd's derivative of it, 0 inf = NaN.
        t = torch.clamp_max(t, math.log(torch.finfo(t.dtype).max) - 1)
    t = exponential(t)
    t = torch.add(t, 1, out=reuse(t))
    return torch.reciprocal(t, out=reuse(t))  # sigmoid(z) = 1 / (1 + exp(-z))                             (4)


def _normal_slope(x: Tensor, gate: Tensor) -> Tensor:
    """dy/dx from `gate` = Phi(x), whose memory it takes."""
    density = exponential((x * x).mul_(-0.5))
    return gate.addcmul_(x, density, value=1 / math.sqrt(2 * math.pi))  # Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)  (3)


def _logistic_slope(x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """dy/dx from `gate` = sigmoid(z) = s, whose memory it takes, and y."""
    change = torch.addcmul(y, y, gate, value=-1)  # x s (1 - s), which is 0 wherever x^2 is large
    # dy/dx = s + x s (1 - s) (A + 3 B x^2)                                                                   (5)
    slope = gate.add_(change, alpha=A)
    return slope.addcmul_(change.mul_(x), x, value=3 * B)


class GELU(Module):
    """y = x Phi(x), Phi the distribution function of the standard normal (Hendrycks and Gimpel, 2016).

    Twin of torch.nn.GELU. Keeps dy/dx, as many numbers as x has and in the place of x.

    Args:
        approximate: "none", or "tanh" for the paper's y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Raises:
        ValueError: where `approximate` is neither.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: given approximate={approximate!r}, expected "none" or "tanh"')
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        if not recording():
            return gelu(x, self.approximate)
        y, slope = gelu_with_slope(x, self.approximate)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        (slope,) = self.saved()
        return None if dy is None else gelu_backward(dy, slope)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"
