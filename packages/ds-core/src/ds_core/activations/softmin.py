"""Softmin: positive numbers that sum to 1, larger where x is smaller. Theory: docs/softmin.md."""

from torch import Tensor

from ds_core.activations.softmax import given_dim, implied_dim, plain_softmax, softmax, softmax_backward
from ds_core.engine.module import Module
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form


def plain_softmin(x: Tensor, dim: int) -> Tensor:
    """x -> y of the same shape, y_i = exp(-x_i) / sum_j exp(-x_j) along `dim`."""
    return plain_softmax(-x, dim)


def plain_softmin_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return y * (dy * y).sum(dim, keepdim=True) - y * dy  # dx_i = y_i sum_j dy_j y_j - y_i dy_i             (1)


# The fast pair is softmax's, with the gradient negated in place.


@fast_form(plain_softmin)
@compilable
def softmin(x: Tensor, dim: int) -> Tensor:
    """x -> y of the same shape, y_i = exp(-x_i) / sum_j exp(-x_j) along `dim`."""
    return softmax(-x, dim)


@fast_form(plain_softmin_backward)
@compilable
def softmin_backward(dy: Tensor, y: Tensor, dim: int) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return softmax_backward(dy, y, dim).neg_()


class Softmin(Module):
    """y_i = exp(-x_i) / sum_j exp(-x_j) along one dimension.

    Twin of torch.nn.Softmin. If a whole slice is +inf, it becomes NaN, as in PyTorch. Keeps its output.

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
        y = softmin(input, dim)
        self.save(y, dim)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        y, dim = self.saved()
        return None if dy is None else softmin_backward(dy, y, dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
