"""The logarithm of softmax, without ever rounding a probability to 0. Theory: docs/log_softmax.md."""

import torch
from torch import Tensor

from ds_core.activations.softmax import given_dim, implied_dim
from ds_core.engine.module import Module
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.exponential import LOG2_E, exponential
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating, widened


def plain_log_softmax(x: Tensor, dim: int) -> Tensor:
    """x -> y of the same shape, y_i = x_i - log sum_j exp(x_j) along `dim`."""
    if x.numel() == 0:
        return x.clone()  # an empty slice has no largest number
    # The shift by m keeps exp from overflowing and cancels in the difference, so it is a constant to autograd too.
    shifted = x - x.detach().amax(dim, keepdim=True)
    logs = torch.log(torch.exp(shifted).sum(dim, keepdim=True))
    return shifted - logs  # y_i = (x_i - m) - log sum_j exp(x_j - m)                                       (1)


def plain_log_softmax_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return dy - torch.exp(y) * dy.sum(dim, keepdim=True)  # dx_i = dy_i - exp(y_i) sum_j dy_j               (2)


# The fast pair takes exponentials as powers of 2, uses one buffer for the exponentials and then for the result, and
# computes half precision in float32.


@fast_form(plain_log_softmax)
@compilable
def log_softmax(x: Tensor, dim: int) -> Tensor:
    """x -> y of the same shape, y_i = x_i - log sum_j exp(x_j) along `dim`."""
    x = to_floating(x)
    if x.numel() == 0:
        return x.clone()
    wide = widened(x)
    largest = wide.detach().amax(dim, keepdim=True)
    exps = exponential(wide - largest)
    logs = exps.sum(dim, keepdim=True).log()
    # Largest and logarithm one after the other: in their sum the digits of the second would be lost.
    y = torch.sub(wide, largest, out=reuse(exps))
    return torch.sub(y, logs, out=reuse(y)).to(x.dtype)


@fast_form(plain_log_softmax_backward)
@compilable
def log_softmax_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    """dy, y -> dx, all of one shape."""
    wide, wide_dy = widened(y), widened(dy)
    probabilities = torch.mul(wide, LOG2_E).exp2_()
    total = wide_dy.sum(dim, keepdim=True)
    return torch.addcmul(wide_dy, probabilities, total, value=-1, out=reuse(probabilities)).to(y.dtype)


class LogSoftmax(Module):
    """y_i = log(exp(x_i) / sum_j exp(x_j)) along one dimension.

    Twin of torch.nn.LogSoftmax. If a whole slice is -inf, it becomes NaN, as in PyTorch. Keeps its output.

    Args:
        dim: the dimension whose slices hold the logarithms of numbers that sum to 1. None, which PyTorch deprecates,
            means 0 for inputs of 0, 1 or 3 dimensions and 1 for others, with a warning.

    Raises:
        IndexError: from `forward`, if the input has no dimension `dim`.
    """

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape, every slice along `dim` the logarithms of numbers that sum to 1."""
        dim = implied_dim(self, input) if self.dim is None else given_dim(self, input, self.dim)
        y = log_softmax(input, dim)
        self.save(y, dim)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        y, dim = self.saved()
        return None if dy is None else log_softmax_backward(dy, y, dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
