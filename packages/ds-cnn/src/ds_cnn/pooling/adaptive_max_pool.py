"""Adaptive max pooling: the largest values of as many windows as are asked for. Theory: docs/adaptive_max_pool.md."""

import functools
import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from ds_core import Module, fast_form
from ds_core.arguments import check_implementation
from ds_core.speed.precision import wide_dtype
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.pooling.adaptive_avg_pool import positions_of
from ds_cnn.pooling.adaptive_windows import adaptive_windows, chosen_size, longest_window, read_output_size
from ds_cnn.pooling.max_pool import scatter_positions
from ds_cnn.pooling.pool_options import check_numbers, spatial_size
from ds_cnn.pooling.running_max import Axis, Visit, flat_positions, running_max, strided_axis
from ds_cnn.pooling.windows import at, pick

# S = spatial sizes of the input, O = of the output. Positions in an image are counted row by row: h W + w.


def plain_adaptive_max_pool(x: Tensor, output_size: Sizes) -> tuple[Tensor, Tensor]:
    """x (..., *S), output_size O -> y (..., *O), positions (..., *O), int64."""
    axes = len(output_size)
    size = tuple(x.shape[-axes:])
    y = x.new_zeros(*x.shape[:-axes], *output_size)
    positions = torch.zeros(y.shape, dtype=torch.int64, device=x.device)
    for o in itertools.product(*map(range, output_size)):
        first, *others = positions_of(o, size, output_size)
        best, position = x[at(first)], torch.full_like(positions[at(o)], flat_position(first, size))
        for i in others:
            value = x[at(i)]
            wins = (value > best) | value.isnan()
            best = torch.where(wins, value, best)  # y_o = max of x_i over i in W_o                            (1)
            position = torch.where(wins, flat_position(i, size), position)  # i*_o = argmax of x_i             (2)
        y[at(o)], positions[at(o)] = best, position
    return y, positions


def plain_adaptive_max_pool_backward(dy: Tensor, positions: Tensor, input_size: Sizes) -> Tensor:
    """dy (..., *O), positions (..., *O), input_size S -> dx (..., *S)."""
    axes = len(input_size)
    wide = dy.to(wide_dtype(dy))
    dx = torch.zeros(*dy.shape[:-axes], *input_size, dtype=wide.dtype, device=dy.device)
    for o in itertools.product(*map(range, dy.shape[-axes:])):
        for i in positions_of(o, input_size, dy.shape[-axes:]):
            wins = positions[at(o)] == flat_position(i, input_size)
            dx[at(i)] += torch.where(wins, wide[at(o)], 0)  # dx_i = sum of dy_o over o with i*_o = i  (3)
    return dx.to(dy.dtype)


def flat_position(position: Sizes, size: Sizes) -> int:
    """h W + w."""
    number = 0
    for i, length in zip(position, size, strict=True):
        number = number * length + i
    return number


# As max pooling does, axis by axis. Autograd differentiates the reading of the values at the positions found.
@fast_form(plain_adaptive_max_pool)
def adaptive_max_pool(x: Tensor, output_size: Sizes) -> tuple[Tensor, Tensor]:
    """x (..., *S), output_size O -> y (..., *O), positions (..., *O), int64."""
    axes = len(output_size)
    size = tuple(x.shape[-axes:])
    windows = [adaptive_windows(*axis) for axis in zip(size, output_size, strict=True)]
    lengths = [longest_window(*axis) for axis in zip(size, output_size, strict=True)]
    with torch.no_grad():
        found = [
            _axis(x, dim, *axis) for dim, axis in zip(range(-axes, 0), zip(windows, lengths, strict=True), strict=True)
        ]
        y, places = running_max(x.detach(), found)
        starts = [torch.tensor([start for start, _ in axis], device=x.device) for axis in windows]
        steps = [torch.arange(length, device=x.device) for length in lengths]
        positions = flat_positions(places, starts, steps, size)
    if torch.is_grad_enabled() and x.requires_grad:
        y = torch.unflatten(x.flatten(-axes).gather(-1, positions.flatten(-axes)), -1, output_size)
    return y, positions


@fast_form(plain_adaptive_max_pool_backward)
def adaptive_max_pool_backward(dy: Tensor, positions: Tensor, input_size: Sizes) -> Tensor:
    """dy (..., *O), positions (..., *O), input_size S -> dx (..., *S)."""
    return scatter_positions(dy, positions, input_size)


def _axis(x: Tensor, dim: int, windows: list[tuple[int, int]], longest: int) -> Axis:
    """Regular windows as strided slices. Of others the shorter ones look at their last position twice."""
    size, count = x.shape[dim], len(windows)
    if size % count == 0:
        return strided_axis(size, dim, count, longest, longest, 0, 1)
    visits = []
    for k in range(longest):
        offsets = torch.tensor([min(k, end - start - 1) for start, end in windows], device=x.device)
        positions = torch.tensor([start for start, _ in windows], device=x.device) + offsets
        read = functools.partial(pick, dim=dim, index=positions)
        dtype = torch.uint8 if longest <= 256 else torch.int32
        shape = (count,) + (1,) * (-dim - 1)
        visits.append(Visit(slice(0, count), offsets.reshape(shape).to(dtype), k == 0, read))
    return Axis(count, longest, visits)


IMPLEMENTATIONS = {
    "vectorized": (adaptive_max_pool, adaptive_max_pool_backward),
    "loops": (plain_adaptive_max_pool, plain_adaptive_max_pool_backward),
}


class _AdaptiveMaxPool(Module):
    """What adaptive max pooling is, whatever the number of spatial axes."""

    axes: int

    def __init__(
        self,
        output_size: int | Sequence[int | None] | None,
        return_indices: bool,
        implementation: Literal["vectorized", "loops"],
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.output_size = read_output_size(self, self.axes, output_size)
        self.return_indices = return_indices
        self.implementation = implementation

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        size = spatial_size(self, input, self.axes)
        check_numbers(self, input)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        y, positions = forward(input, chosen_size(size, self.output_size))
        self.save(size, positions)
        return (y, positions) if self.return_indices else y

    def backward(self, dy: Tensor | None, dindices: None = None) -> Tensor | None:
        """dy (N, C, *O) -> dx (N, C, *S). Indices are integers, so they have no gradient: `dindices` is None."""
        input_size, positions = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, positions, input_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest values of as many windows of a sequence as are asked for.

    Twin of torch.nn.AdaptiveMaxPool1d. Input (N, C, L) or (C, L), output (N, C, P) or (C, P). Arguments and errors are
    those of `AdaptiveMaxPool2d`, with one axis.
    """

    axes = 1

    def __init__(
        self,
        output_size: int | tuple[int | None, ...] | None,
        return_indices: bool = False,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(output_size, return_indices, implementation)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest values of as many windows of an image as are asked for, whatever its size.

    Twin of torch.nn.AdaptiveMaxPool2d. Input (N, C, H, W) or (C, H, W), output (N, C, P, Q) or (C, P, Q).

    Args:
        output_size: one number, or (P, Q); None keeps the size of the input.
        return_indices: whether forward returns `(y, indices)`: where in the image each value stood, h W + w, in int64.
        implementation: "vectorized", or "loops", window by window as the formula says, for reading.

    Raises:
        ValueError: for an output size below one.
        ShapeError: from `forward`, for an input of another shape, or of truth values.
    """

    axes = 2

    def __init__(
        self,
        output_size: int | tuple[int | None, ...] | None,
        return_indices: bool = False,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(output_size, return_indices, implementation)
