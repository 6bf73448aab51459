"""Average pooling: the mean of each window of an image. Theory: docs/avg_pool.md."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from ds_core import Module, ShapeError, fast_form, reuse
from ds_core.arguments import check_implementation, whole_number
from ds_core.errors import check_floating
from ds_core.speed.precision import widened
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.pooling.pool_options import read_geometry, spatial_size
from ds_cnn.pooling.windows import (
    at,
    covered_positions,
    window_count,
    window_lengths,
    window_sums,
    window_sums_backward,
)

# N = batch, C = channels, S = spatial sizes of the input, O = of the output,
# kernel_size, stride, padding: one number for each spatial axis


def plain_avg_pool(x: Tensor, divisor: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> Tensor:
    """x (..., *S), divisor (*O) -> y (..., *O)."""
    size, dilation = x.shape[-divisor.dim() :], (1,) * divisor.dim()
    wide = x.to(divisor.dtype)  # of half precision float32, so that the sum is rounded once
    y = torch.zeros(*x.shape[: -divisor.dim()], *divisor.shape, dtype=divisor.dtype, device=x.device)
    for o in itertools.product(*map(range, divisor.shape)):
        for _, i in covered_positions(o, size, kernel_size, stride, padding, dilation):
            y[at(o)] += wide[at(i)] / divisor[o]  # y_o = sum_i x_i / D_o                              (1)
    return y.to(x.dtype)


def plain_avg_pool_backward(
    dy: Tensor, input_size: Sizes, divisor: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> Tensor:
    """dy (..., *O), input_size S -> dx (..., *S)."""
    dilation = (1,) * divisor.dim()
    wide = dy.to(divisor.dtype)
    dx = torch.zeros(*dy.shape[: -divisor.dim()], *input_size, dtype=divisor.dtype, device=dy.device)
    for o in itertools.product(*map(range, divisor.shape)):
        for _, i in covered_positions(o, input_size, kernel_size, stride, padding, dilation):
            dx[at(i)] += wide[at(o)] / divisor[o]  # dx_i = sum_o dy_o / D_o                           (4)
    return dx.to(dy.dtype)


# All windows at once. The sum over a window is the sum of its rows' sums: K_h + K_w additions instead of K_h K_w. Rows
# come last because neighbours in a row are neighbours in memory: what is long is added as whole rows.
@fast_form(plain_avg_pool)
def avg_pool(x: Tensor, divisor: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes) -> Tensor:
    """x (..., *S), divisor (*O) -> y (..., *O)."""
    sums = x
    for axis, geometry in enumerate(zip(divisor.shape, kernel_size, stride, padding, strict=True)):
        sums = window_sums(sums, axis - divisor.dim(), *geometry)  # one axis of S becomes one of O
    return torch.div(sums, divisor, out=reuse(sums)).to(x.dtype)


@fast_form(plain_avg_pool_backward)
def avg_pool_backward(
    dy: Tensor, input_size: Sizes, divisor: Tensor, kernel_size: Sizes, stride: Sizes, padding: Sizes
) -> Tensor:
    """dy (..., *O), input_size S -> dx (..., *S)."""
    dx = widened(dy) / divisor  # dsum_o = dy_o / D_o                                                          (2)
    for axis, geometry in reversed(list(enumerate(zip(input_size, kernel_size, stride, padding, strict=True)))):
        dx = window_sums_backward(dx, axis - divisor.dim(), *geometry)  # one axis of O becomes one of S       (3)
    return dx.to(dy.dtype)


IMPLEMENTATIONS = {
    "vectorized": (avg_pool, avg_pool_backward),
    "loops": (plain_avg_pool, plain_avg_pool_backward),
}


class _AvgPool(Module):
    """What average pooling is, whatever the number of spatial axes."""

    axes: int

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None,
        padding: int | Sequence[int],
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
        implementation: Literal["vectorized", "loops"],
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.kernel_size, self.stride, self.padding, _ = read_geometry(self, self.axes, kernel_size, stride, padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override
        self.implementation = implementation
        if divisor_override is not None:
            name = type(self).__name__
            self.divisor_override = whole_number(name, "divisor_override", divisor_override, least=None)
            if self.divisor_override == 0:
                raise ValueError(f"{self!r}: divisor_override must not be 0")

    def forward(self, input: Tensor) -> Tensor:
        size = spatial_size(self, input, self.axes)
        check_floating(self, input=input)
        divisor = self._divisor(input, size)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        self.save(size, divisor)
        return forward(input, divisor, self.kernel_size, self.stride, self.padding)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        input_size, divisor = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, input_size, divisor, self.kernel_size, self.stride, self.padding)

    def _divisor(self, x: Tensor, size: Sizes) -> Tensor:
        """D (*O), what the sum over each window is divided by, in the dtype of the sum: 57 x 57 is no bfloat16."""
        geometry = list(zip(size, self.kernel_size, self.stride, self.padding, strict=True))
        counts = [window_count(*axis, self.ceil_mode) for axis in geometry]
        if min(counts) < 1:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, which is too small for one window")
        like = widened(x.new_empty(0))
        if self.divisor_override is not None:
            return torch.full(counts, self.divisor_override, dtype=like.dtype, device=x.device)
        divisor = torch.ones((), dtype=like.dtype, device=x.device)
        for (axis_size, kernel, stride, padding), count in zip(geometry, counts, strict=True):
            lengths = window_lengths(axis_size, count, kernel, stride, padding, self.count_include_pad, like)
            divisor = divisor[..., None] * lengths  # D_pq = height times width
        return divisor

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of a sequence.

    Twin of torch.nn.AvgPool1d. Input (N, C, L) or (C, L), output (N, C, P) or (C, P). Arguments and errors are those of
    `AvgPool2d`, with one axis and without `divisor_override`.
    """

    axes = 1

    def __init__(
        self,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] | None = None,
        padding: int | tuple[int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad, None, implementation)


class AvgPool2d(_AvgPool):
    """The mean of each window of an image (LeCun et al., "Gradient-Based Learning", 1998, subsampling without weights).

    Twin of torch.nn.AvgPool2d. Input (N, C, H, W) or (C, H, W), output (N, C, P, Q) or (C, P, Q).

    Args:
        kernel_size: K, the size of a window; here and below one int, or (height, width).
        stride: s, the step from window to window; `kernel_size` by default.
        padding: p, zeros put around the image, at most half a window.
        ceil_mode: keep a last window that sticks out, if it starts before the far padding.
        count_include_pad: whether the zeros of the padding count in the mean.
        divisor_override: divide by this number instead of the size of the window.
        implementation: "vectorized", or "loops", window by window as the formula says, for reading.

    Raises:
        TypeError: for a divisor that is no whole number.
        ValueError: for a window, stride, padding or divisor that makes no sense.
        ShapeError: from `forward`, for an input of another shape, of integers, or too small for one window.
    """

    axes = 2

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, implementation)
