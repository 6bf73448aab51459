"""Softmax: any numbers into positive ones that sum to 1. Theory: docs/softmax.md."""

import warnings

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.exponential import exponential
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating, widened


def plain_softmax(x: Tensor, dim: int) -> Tensor:
    """x -> y of the same shape, y_i = exp(x_i) / sum_j exp(x_j) along `dim`."""
    if x.numel() == 0:
        return x.clone()  # an empty slice has no largest number
    # The shift by m keeps exp from overflowing and cancels in the ratio, so it is a constant to autograd too.
    m = x.detach().amax(dim, keepdim=True)
    exps = torch.exp(x - m)
    return exps / exps.sum(dim, keepdim=True)  # y_i = exp(x_i - m) / sum_j exp(x_j - m)                    (1)


def plain_softmax_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return y * dy - y * (dy * y).sum(dim, keepdim=True)  # dx_i = y_i dy_i - y_i sum_j dy_j y_j             (2)


# The fast pair takes exponentials as powers of 2, works in one buffer, which becomes the result, and computes half
# precision in float32.


@fast_form(plain_softmax)
@compilable
def softmax(x: Tensor, dim: int) -> Tensor:
    """x -> y of the same shape, y_i = exp(x_i) / sum_j exp(x_j) along `dim`."""
    x = to_floating(x)
    if x.numel() == 0:
        return x.clone()
    wide = widened(x)
    shifted = wide - wide.detach().amax(dim, keepdim=True)
    exps = exponential(shifted)
    return torch.div(exps, exps.sum(dim, keepdim=True), out=reuse(exps)).to(x.dtype)


@fast_form(plain_softmax_backward)
@compilable
def softmax_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    """dy, y -> dx, all of one shape."""
    wide = widened(y)
    dx = widened(dy) * wide
    total = dx.sum(dim, keepdim=True)
    return dx.addcmul_(wide, total, value=-1).to(y.dtype)


def implied_dim(layer: Module, x: Tensor) -> int:
    """The dimension that a softmax without `dim` goes along, as PyTorch guesses it; warns the caller of `layer`."""
    name = type(layer).__name__
    warnings.warn(f"{name}: without dim it is guessed from the number of dimensions; give dim=", stacklevel=5)
    return 0 if x.dim() in (0, 1, 3) else 1


def given_dim(layer: Module, x: Tensor, dim: int) -> int:
    """`dim`; raises IndexError, naming `layer`, if x has no such dimension. A scalar has 0 and -1, as in PyTorch."""
    count = max(1, x.dim())
    if not -count <= dim < count:
        raise IndexError(f"{layer!r}: given input of shape {tuple(x.shape)}, which has no dimension {dim}")
    return dim


class Softmax(Module):
    """y_i = exp(x_i) / sum_j exp(x_j) along one dimension.

    Twin of torch.nn.Softmax. If a whole slice is -inf, it becomes NaN, as in PyTorch.

    Args:
        dim: the dimension whose slices sum to 1. None, which PyTorch deprecates, means 0 for inputs of
            0, 1 or 3 dimensions and 1 for others, with a warning.

    Raises:
        IndexError: from `forward`, if the input has no dimension `dim`.
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape, every slice along `dim` summing to 1."""
        dim = implied_dim(self, input) if self.dim is None else given_dim(self, input, self.dim)
        y = softmax(input, dim)
        self.save(y, dim)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        y, dim = self.saved()
        return None if dy is None else softmax_backward(dy, y, dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
