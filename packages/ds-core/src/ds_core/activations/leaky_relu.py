"""The leaky rectifier: x where it is positive, a small multiple of x elsewhere. Theory: docs/leaky_relu.md."""

import torch
from torch import Tensor

from ds_core.activations.relu import relu
from ds_core.engine.module import Module
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form


def plain_leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x -> y of the same shape, y = max(x, 0) + a min(x, 0) with a = negative_slope."""
    # At x = 0 autograd gives relu the slope 0 and clamp_max the slope 1: together a, as in PyTorch.
    return relu(x) + negative_slope * torch.clamp_max(x, 0)


def plain_leaky_relu_backward(dy: Tensor, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """dy, x -> dx, all of one shape; y does as well as x if a >= 0, since it is positive at the same indices."""
    return torch.where(x > 0, dy, negative_slope * dy)  # dx = dy ([x > 0] + a [x <= 0])                    (1)


# The fast pair replaces the choice, which is slow on a CPU, by arithmetic with signs, in the memory of the result and
# in chunks that stay in the cache.


@fast_form(plain_leaky_relu)
@compilable
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x -> y of the same shape, y = max(x, 0) + a min(x, 0) with a = negative_slope."""

    def chain(x: Tensor, out: Out) -> tuple[Tensor]:
        negative = torch.clamp_max(x, 0, out=out[0])
        return (torch.add(relu(x), negative, alpha=negative_slope, out=out[0]),)

    (y,) = elementwise(chain, x)
    return y


@fast_form(plain_leaky_relu_backward)
@compilable
def leaky_relu_backward(dy: Tensor, x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """dy, x -> dx, all of one shape; y does as well as x if a >= 0, since it is positive at the same indices."""

    def chain(dy: Tensor, x: Tensor, out: Out) -> tuple[Tensor]:
        if 0 <= negative_slope <= 1:
            slope = torch.sign(x, out=out[0]).clamp_min_(negative_slope)  # max(1, a) = 1, max(0, a) = max(-1, a) = a
            return (slope.mul_(dy),)
        dpositive, dnegative = halves(dy, x)  # holds for any a, and takes twice as long
        return (torch.add(dpositive, dnegative, alpha=negative_slope, out=out[0]),)

    (dx,) = elementwise(chain, dy, x)
    return dx


def halves(dy: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """dy where x > 0 and elsewhere 0, and the rest of dy, as tensors of their own."""
    # gt_ gives numbers of the dtype of x, because arithmetic with booleans is slow on a CPU
    dpositive = x.clone().gt_(0).mul_(dy)
    return dpositive, dy - dpositive


class LeakyReLU(Module):
    """y = max(x, 0) + a min(x, 0), element by element (Maas et al., "Rectifier Nonlinearities Improve Neural Network
    Acoustic Models", 2013).

    Twin of torch.nn.LeakyReLU, `inplace` left out. Keeps its output, which the layer above most often keeps too; if
    a < 0 it keeps x.

    Args:
        negative_slope: a, the slope where x <= 0.
    """

    def __init__(self, negative_slope: float = 1e-2) -> None:
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        y = leaky_relu(input, self.negative_slope)
        self.save(y if self.negative_slope >= 0 else input)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (kept,) = self.saved()
        return None if dy is None else leaky_relu_backward(dy, kept, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"
