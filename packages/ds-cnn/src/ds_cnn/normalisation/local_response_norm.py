"""Each number divided by the energy of neighbouring channels. Theory: docs/local_response_norm.md."""

from typing import Literal

import torch
from ds_core import Module, ShapeError, fast_form
from ds_core.arguments import check_implementation, real_number, whole_number
from ds_core.layers.channels import positions
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

from ds_cnn.pooling.windows import window_sums, window_sums_backward

# N = batch, C = channels, K = size of the window of channels.
# Window c covers the channels c - floor(K / 2) ... c - floor(K / 2) + K - 1, those that there are.


def plain_local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> tuple[Tensor, Tensor]:
    """x (N, C, ...) -> y and d, both of the shape of x, number by number."""
    wide = x.to(wide_dtype(x))
    y, d = torch.zeros_like(x), torch.zeros_like(wide)
    for c in range(x.shape[1]):
        for n in positions(x, c):
            neighbours = [wide[in_channel(j, n)] for j in window(c, size, x.shape[1])]
            d_c = k + alpha / size * sum(x_j * x_j for x_j in neighbours)  # d_c = k + alpha/K sum_j x_j^2         (1)
            y[n] = wide[n] * d_c**-beta  # y_c = x_c d_c^-beta                                                     (2)
            d[n] = d_c
    return y, d


def plain_local_response_norm_backward(
    dy: Tensor, x: Tensor, d: Tensor, size: int, alpha: float, beta: float
) -> Tensor:
    """dy, x, d (N, C, ...) -> dx of the same shape, number by number."""
    dy, x, dtype = dy.to(d.dtype), x.to(d.dtype), x.dtype
    dx = torch.zeros_like(x)
    for c in range(x.shape[1]):
        for n in positions(x, c):
            dx[n] += dy[n] * d[n] ** -beta  # what comes through the numerator                                     (3)
            dd = -beta * dy[n] * x[n] * d[n] ** (-beta - 1)  # dd_c = -beta dy_c x_c d_c^(-beta - 1)               (4)
            for j in window(c, size, x.shape[1]):
                i = in_channel(j, n)
                dx[i] += dd * 2 * alpha / size * x[i]  # dx_j += dd_c 2 alpha/K x_j, j in window c                 (5)
    return dx.to(dtype)


def window(c: int, size: int, channels: int) -> range:
    """The channels that window c covers."""
    return range(max(0, c - size // 2), min(channels, c - size // 2 + size))


def in_channel(j: int, n: tuple[int, ...]) -> tuple[int, ...]:
    """Position n, but in channel j."""
    return n[0], j, *n[2:]


# All windows at once, as sums over slices of the channels. Half precision is calculated in float32.
@fast_form(plain_local_response_norm)
def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> tuple[Tensor, Tensor]:
    """x (N, C, ...) -> y and d, both of the shape of x."""
    wide = widened(x).flatten(2)
    sums = window_sums(wide * wide, -2, x.shape[1], size, 1, size // 2)
    d = sums * (alpha / size) + k  # d_c = k + alpha/K sum_j x_j^2                                                 (1)
    return (wide * d.pow(-beta)).to(x.dtype).reshape(x.shape), d.reshape(x.shape)  # y_c = x_c d_c^-beta           (2)


@fast_form(plain_local_response_norm_backward)
def local_response_norm_backward(dy: Tensor, x: Tensor, d: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """dy, x, d (N, C, ...) -> dx of the same shape."""
    dy_wide, x_wide, d_flat = widened(dy).flatten(2), widened(x).flatten(2), d.flatten(2)
    dnumerator = dy_wide * d_flat.pow(-beta)  #                                                                    (3)
    dd = dnumerator * x_wide * (-beta) / d_flat  # dd_c = -beta dy_c x_c d_c^(-beta - 1)                           (4)
    dsquares = window_sums_backward(dd, -2, x.shape[1], size, 1, size // 2)  # of x_j^2, but for alpha / K         (5)
    return (dnumerator + dsquares * x_wide * (2 * alpha / size)).to(x.dtype).reshape(x.shape)


IMPLEMENTATIONS = {
    "vectorized": (local_response_norm, local_response_norm_backward),
    "loops": (plain_local_response_norm, plain_local_response_norm_backward),
}


class LocalResponseNorm(Module):
    """y_c = x_c / (k + alpha / K sum of x_j^2 over the K channels around c)^beta, at each position by itself.

    Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section
    3.3, with alpha divided by K as PyTorch does. Twin of torch.nn.LocalResponseNorm. x is (N, C, ...) with one
    dimension or more after C. Keeps x and the base of the power.

    Args:
        size: K, how many neighbouring channels count, 1 or more; channels beyond the first and last are zeros.
        alpha: the weight of the mean square.
        beta: the exponent.
        k: added to it, against a division by zero.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        TypeError: for a size that is no whole number, or another argument that is no number; from `forward`, where x
            holds integers.
        ValueError: for a size below 1, numbers that are not finite, or an unknown implementation.
        ShapeError: from `forward`, where x has less than 3 dimensions.
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.size = whole_number("LocalResponseNorm", "size", size)
        self.alpha = real_number("LocalResponseNorm", "alpha", alpha)
        self.beta = real_number("LocalResponseNorm", "beta", beta)
        self.k = real_number("LocalResponseNorm", "k", k)
        self.implementation = implementation

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...) -> y of the same shape."""
        if input.dim() < 3:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(input.shape)}, expected (N, C, L), (N, C, H, W) ..."
            )
        if not input.is_floating_point():
            raise TypeError(f"{self!r}: given input of {input.dtype}, expected floating numbers")
        forward, _ = IMPLEMENTATIONS[self.implementation]
        y, d = forward(input, self.size, self.alpha, self.beta, self.k)
        self.save(input, d)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        x, d = self.saved()
        _, backward = IMPLEMENTATIONS[self.implementation]
        return None if dy is None else backward(dy, x, d, self.size, self.alpha, self.beta)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
