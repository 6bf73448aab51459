"""Max pooling: the largest value of each window of an image. Theory: docs/max_pool.md."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from ds_core import Module, ShapeError, fast_form
from ds_core.arguments import check_implementation
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.pooling.pool_options import check_numbers, read_geometry, spatial_size
from ds_cnn.pooling.running_max import flat_positions, in_parts, place_dtype, running_max, strided_axis
from ds_cnn.pooling.windows import at, covered_positions, empty_along, kernel_slices, window_count, zeros_along

# N = batch, C = channels, S = spatial sizes of the input, O = of the output,
# kernel_size K, stride s, padding p, dilation d: one number for each spatial axis.
# A place says which position of its window is the largest, counted row by row: k_h K_w + k_w.

FEW = 16  # places of a window up to which going place by place is fast; by trial


def plain_max_pool(
    x: Tensor, output_size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[Tensor, Tensor]:
    """x (..., *S), output_size O -> y (..., *O), places (..., *O)."""
    axes = len(output_size)
    y = x.new_zeros(*x.shape[:-axes], *output_size)
    places = torch.zeros(y.shape, dtype=place_dtype(kernel_size), device=x.device)
    for o in itertools.product(*map(range, output_size)):
        (first, i), *others = covered_positions(o, x.shape[-axes:], kernel_size, stride, padding, dilation)
        best, place = x[at(i)], torch.full_like(places[at(o)], place_number(first, kernel_size))
        for k, i in others:
            wins = (x[at(i)] > best) | x[at(i)].isnan()
            best = torch.where(wins, x[at(i)], best)  # y_o = max_k x_{os - p + kd}                            (1)
            place = torch.where(wins, place_number(k, kernel_size), place)  # k*_o = argmax_k ...              (2)
        y[at(o)], places[at(o)] = best, place
    return y, places


def plain_max_pool_backward(
    dy: Tensor, places: Tensor, input_size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Tensor:
    """dy (..., *O), places (..., *O), input_size S -> dx (..., *S)."""
    axes = len(input_size)
    wide = dy.to(wide_dtype(dy))
    dx = torch.zeros(*dy.shape[:-axes], *input_size, dtype=wide.dtype, device=dy.device)
    for o in itertools.product(*map(range, dy.shape[-axes:])):
        for k, i in covered_positions(o, input_size, kernel_size, stride, padding, dilation):
            wins = places[at(o)] == place_number(k, kernel_size)
            dx[at(i)] += torch.where(wins, wide[at(o)], 0)  # dx_i = sum of dy_o, os - p + k*_o d = i  (3)
    return dx.to(dy.dtype)


def place_number(offset: Sizes, kernel_size: Sizes) -> int:
    """k_h K_w + k_w: the offset in a window, counted row by row."""
    number = 0
    for k, kernel in zip(offset, kernel_size, strict=True):
        number = number * kernel + k
    return number


# The maximum over a window is the maximum of its rows' maxima: see running_max. Autograd must send the gradient of
# equal values to one of them, so it differentiates the reading of the values at the places found.
@fast_form(plain_max_pool)
def max_pool(
    x: Tensor, output_size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> tuple[Tensor, Tensor]:
    """x (..., *S), output_size O -> y (..., *O), places (..., *O), in uint8 if that can count them, else int32."""
    axes = len(output_size)
    geometry = zip(x.shape[-axes:], range(-axes, 0), output_size, kernel_size, stride, padding, dilation, strict=True)
    with torch.no_grad():
        y, places = running_max(x.detach(), [strided_axis(*axis) for axis in geometry])
    if torch.is_grad_enabled() and x.requires_grad:
        positions = max_positions(places, x.shape[-axes:], kernel_size, stride, padding, dilation)
        y = torch.unflatten(x.flatten(-axes).gather(-1, positions.flatten(-axes)), -1, output_size)
    return y, places


# Positions repeat if windows overlap, so their gradients are added up. With the channels last in memory it is slow to
# add at single positions, and fast to go place by place: each is one slice of the image.
@fast_form(plain_max_pool_backward)
def max_pool_backward(
    dy: Tensor, places: Tensor, input_size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Tensor:
    """dy (..., *O), places (..., *O), input_size S -> dx (..., *S)."""
    geometry = kernel_size, stride, padding, dilation
    if not _is_fast_by_place(dy, places, kernel_size):
        return scatter_positions(dy, max_positions(places, input_size, *geometry), input_size)
    dx = places
    for dim, size in enumerate(input_size, -len(input_size)):
        dx = empty_along(dx, dim, size, wide_dtype(dy))
    slices = list(kernel_slices(input_size, dy.shape[-len(input_size) :], *geometry))
    for dx_part, dy_part, places_part in in_parts(dx, widened(dy), places):
        dx_part.zero_()
        for k, windows, positions in slices:
            place = places_part[at(windows)]
            # On a CPU a comparison is vectorized if its result has the dtype of what is compared.
            wins = torch.eq(place, place_number(k, kernel_size), out=torch.empty_like(place)).to(dx.dtype)
            dx_part[at(positions)].addcmul_(dy_part[at(windows)], wins)  # dx_i += dy_o if k*_o = k   (3)
    return dx.to(dy.dtype)


def _is_fast_by_place(dy: Tensor, places: Tensor, kernel_size: Sizes) -> bool:
    """Whether the channels lie side by side in memory, the places are few, and 0 times dy is 0: infinity is not."""
    axes = len(kernel_size)
    if places.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_grad_enabled() or places.dim() == axes:
        return False
    return places.stride(-axes - 1) == 1 and math.prod(kernel_size) <= FEW and bool(dy.sum().isfinite())


def max_positions(
    places: Tensor, input_size: Sizes, kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Tensor:
    """places (..., *O) -> positions in the image, counted row by row, int64 (..., *O): what torch.nn calls indices."""
    counts = places.shape[-len(input_size) :]
    starts = [
        torch.arange(count, device=places.device) * s - p for count, s, p in zip(counts, stride, padding, strict=True)
    ]
    steps = [torch.arange(k, device=places.device) * d for k, d in zip(kernel_size, dilation, strict=True)]
    return flat_positions(places, starts, steps, input_size)


def scatter_positions(dy: Tensor, positions: Tensor, input_size: Sizes) -> Tensor:
    """dy (..., *O), positions (..., *O) -> dx (..., *S): dx_i is the sum of dy_o over the o with position i."""
    axes = len(input_size)
    flat = widened(dy).flatten(-axes)
    dx = zeros_along(flat, -1, math.prod(input_size), flat.dtype)
    dx.scatter_add_(-1, positions.flatten(-axes), flat)
    return torch.unflatten(dx, -1, input_size).to(dy.dtype)


IMPLEMENTATIONS = {
    "vectorized": (max_pool, max_pool_backward),
    "loops": (plain_max_pool, plain_max_pool_backward),
}


class _MaxPool(Module):
    """What max pooling is, whatever the number of spatial axes."""

    axes: int

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] | None,
        padding: int | Sequence[int],
        dilation: int | Sequence[int],
        return_indices: bool,
        ceil_mode: bool,
        implementation: Literal["vectorized", "loops"],
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.geometry = read_geometry(self, self.axes, kernel_size, stride, padding, dilation)
        self.kernel_size, self.stride, self.padding, self.dilation = self.geometry
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode
        self.implementation = implementation

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        size = spatial_size(self, input, self.axes)
        check_numbers(self, input)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        y, places = forward(input, self._output_size(input, size), *self.geometry)
        self.save(size, places)
        return (y, max_positions(places, size, *self.geometry)) if self.return_indices else y

    def backward(self, dy: Tensor | None, dindices: None = None) -> Tensor | None:
        """dy (N, C, *O) -> dx (N, C, *S). Indices are integers, so they have no gradient: `dindices` is None."""
        input_size, places = self.saved()
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        return backward(dy, places, input_size, *self.geometry)

    def _output_size(self, x: Tensor, size: Sizes) -> Sizes:
        counts = []
        for length, kernel, stride, padding, dilation in zip(size, *self.geometry, strict=True):
            counts.append(window_count(length, kernel, stride, padding, self.ceil_mode, dilation))
            if counts[-1] < 1:
                raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, which is too small for one window")
            # A window that begins before the image steps over it if steps are longer than the image.
            if length < dilation and any((start - padding) % dilation >= length for start in range(0, padding, stride)):
                raise ShapeError(
                    f"{self!r}: given input of shape {tuple(x.shape)}, where a window covers nothing but padding: "
                    "use less dilation or padding"
                )
        return tuple(counts)

    def extra_repr(self) -> str:
        geometry = (f"{name}={value}" for name, value in self.geometry._asdict().items())
        return f"{', '.join(geometry)}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest value of each window of a sequence.

    Twin of torch.nn.MaxPool1d. Input (N, C, L) or (C, L), output (N, C, P) or (C, P). Arguments and errors are those of
    `MaxPool2d`, with one axis.
    """

    axes = 1

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, return_indices, ceil_mode, implementation)


class MaxPool2d(_MaxPool):
    """The largest value of each window of an image (Ranzato et al., "Unsupervised Learning of Invariant Feature
    Hierarchies with Applications to Object Recognition", 2007).

    Twin of torch.nn.MaxPool2d. Input (N, C, H, W) or (C, H, W), output (N, C, P, Q) or (C, P, Q).

    Args:
        kernel_size: K, the number of values a window looks at; here and below one int, or (height, width).
        stride: s, the step from window to window; `kernel_size` by default.
        padding: p, positions around the image that never win, at most half of what a window spans.
        dilation: d, the step from value to value within a window.
        return_indices: whether forward returns `(y, indices)`: where in the image each value stood, h W + w, in int64.
        ceil_mode: keep a last window that sticks out, if it starts before the far padding.
        implementation: "vectorized", or "loops", window by window as the formula says, for reading.

    Raises:
        ValueError: for a window, stride, padding or dilation that makes no sense.
        ShapeError: from `forward`, for an input of another shape, of truth values, or too small for one window.
    """

    axes = 2

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, return_indices, ceil_mode, implementation)
