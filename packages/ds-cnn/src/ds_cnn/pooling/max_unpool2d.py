"""Max unpooling: values go back to where max pooling found them. Theory: docs/max_unpool2d.md."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from ds_core import Module, ShapeError, fast_form
from ds_core.arguments import check_implementation
from ds_core.errors import check_floating
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes, per_axis
from ds_cnn.pooling.adaptive_max_pool import flat_position
from ds_cnn.pooling.pool_options import spatial_size
from ds_cnn.pooling.windows import at, zeros_along

# O = spatial sizes of the input (what pooling put out), S = of the output. Indices are positions in it, h W + w.


def plain_max_unpool2d(x: Tensor, indices: Tensor, output_size: Sizes) -> Tensor:
    """x (..., *O), indices (..., *O), output_size S -> y (..., *S). Of values with one index the last remains."""
    y = x.new_zeros(*x.shape[:-2], *output_size)
    for o in itertools.product(*map(range, x.shape[-2:])):
        for i in itertools.product(*map(range, output_size)):
            is_target = indices[at(o)] == flat_position(i, output_size)
            y[at(i)] = torch.where(is_target, x[at(o)], y[at(i)])  # y_i = x_o if i = i_o, else 0  (1)
    return y


def plain_max_unpool2d_backward(dy: Tensor, indices: Tensor) -> Tensor:
    """dy (..., *S), indices (..., *O) -> dx (..., *O)."""
    size = tuple(dy.shape[-2:])
    dx = dy.new_zeros(indices.shape)
    for o in itertools.product(*map(range, indices.shape[-2:])):
        for i in itertools.product(*map(range, size)):
            is_target = indices[at(o)] == flat_position(i, size)
            dx[at(o)] += torch.where(is_target, dy[at(i)], 0)  # dx_o = dy_i with i = i_o              (2)
    return dx


# All values at once. On a CPU they are written in order, so the last of one index remains; on a GPU any may.
@fast_form(plain_max_unpool2d)
def max_unpool2d(x: Tensor, indices: Tensor, output_size: Sizes) -> Tensor:
    """x (..., *O), indices (..., *O), output_size S -> y (..., *S)."""
    values = x.flatten(-2)
    y = zeros_along(values, -1, math.prod(output_size), x.dtype)
    return torch.unflatten(y.scatter(-1, indices.flatten(-2), values), -1, output_size)


@fast_form(plain_max_unpool2d_backward)
def max_unpool2d_backward(dy: Tensor, indices: Tensor) -> Tensor:
    """dy (..., *S), indices (..., *O) -> dx (..., *O)."""
    return torch.unflatten(dy.flatten(-2).gather(-1, indices.flatten(-2)), -1, indices.shape[-2:])


IMPLEMENTATIONS = {
    "vectorized": (max_unpool2d, max_unpool2d_backward),
    "loops": (plain_max_unpool2d, plain_max_unpool2d_backward),
}


class MaxUnpool2d(Module):
    """Puts each value where max pooling found it, and zeros elsewhere (Zeiler and Fergus, "Visualizing and
    Understanding Convolutional Networks", 2014).

    Twin of torch.nn.MaxUnpool2d. Input and indices (N, C, P, Q) or (C, P, Q), output (N, C, H, W) or (C, H, W). The
    other arguments are those of the pooling to be undone: they say how large the image was.

    Args:
        kernel_size: K, the size of a window; here and below one int, or (height, width).
        stride: s, the step from window to window; `kernel_size` by default.
        padding: p, the padding.
        implementation: "vectorized", or "loops", position by position as the formula says, for reading.

    Raises:
        ValueError: for a window, stride or padding that makes no sense; from `forward`, for an `output_size` that this
            pooling cannot have come from.
        ShapeError: from `forward`, for an input of another shape, or for indices of another shape or dtype, or outside
            the output.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.kernel_size = per_axis(kernel_size, 2, "MaxUnpool2d: kernel_size")
        self.stride = self.kernel_size if stride is None else per_axis(stride, 2, "MaxUnpool2d: stride")
        self.padding = per_axis(padding, 2, "MaxUnpool2d: padding")
        self.implementation = implementation
        if min(*self.kernel_size, *self.stride) < 1 or min(self.padding) < 0:
            raise ValueError(f"{self!r}: kernel_size and stride must be 1 or more, padding 0 or more")

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """input, indices (N, C, P, Q) -> (N, C, H, W).

        Args:
            indices: the second output of `MaxPool2d(..., return_indices=True)`.
            output_size: (H, W) or (N, C, H, W), less than a stride from the size that it has by default: pooling maps
                several sizes to one.
        """
        size = spatial_size(self, input, 2)
        check_floating(self, input=input)
        if indices.dtype != torch.int64 or indices.shape != input.shape:
            raise ShapeError(
                f"{self!r}: given indices {tuple(indices.shape)} in {indices.dtype}, expected the shape of the input, "
                f"{tuple(input.shape)}, in int64"
            )
        target = self._output_size(size, output_size)
        self._check_inside(indices, target)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        self.save(indices)
        return forward(input, indices, target)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy (N, C, H, W) -> dx (N, C, P, Q)."""
        (indices,) = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, indices)

    def _output_size(self, size: Sizes, given: Sequence[int] | None) -> Sizes:
        geometry = zip(size, self.kernel_size, self.stride, self.padding, strict=True)
        default = tuple((length - 1) * s + kernel - 2 * p for length, kernel, s, p in geometry)  # S = (O-1)s+K-2p  (3)
        chosen = default if given is None else tuple(given[2:] if len(given) == 4 else given)
        if len(chosen) != 2:
            raise ValueError(f"{self!r}: given output_size={tuple(chosen)}, expected (H, W) or (N, C, H, W)")
        if min(chosen) < 1 or any(abs(c - d) >= s for c, d, s in zip(chosen, default, self.stride, strict=True)):
            raise ValueError(
                f"{self!r}: given an input of {size} and output_size={given}, expected an output of at least 1 x 1 and "
                f"less than a stride from {default}"
            )
        return chosen

    def _check_inside(self, indices: Tensor, target: Sizes) -> None:
        if torch.compiler.is_compiling() or indices.numel() == 0:
            return
        lowest, highest = int(indices.min()), int(indices.max())
        if lowest < 0 or highest >= math.prod(target):
            raise ShapeError(
                f"{self!r}: given indices from {lowest} to {highest}, expected 0 to {math.prod(target) - 1} for an "
                f"output of {target}"
            )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
