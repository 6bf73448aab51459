"""The largest value of each window, axis by axis, and its place in the window. Theory: docs/max_pool.md.

Max pooling and adaptive max pooling share it. They differ in where their windows begin.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from ds_core import reuse
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes
from ds_cnn.pooling.windows import along, empty_along, memory_order, offsets

# S = spatial sizes of the input, O = of the output, K = of the (longest) window.
# A place is a position in a window, counted row by row: k_h K_w + k_w.


# Elements of the input in one go, so that all steps between stay in the cache; by trial.
CHUNK = 2**19


class Visit(NamedTuple):
    """One step on the way through the windows of one axis: each of `windows` looks at one value."""

    windows: slice
    offset: int | Tensor  # how far into the window the value is; a tensor says it for each window
    begins: bool  # whether these are the first values that the windows see
    values: Callable[[Tensor], Tensor]  # picks the values out of a tensor


class Axis(NamedTuple):
    """The windows of one axis: their number O, their longest length K, and the visits that show them all they cover."""

    outputs: int
    kernel: int
    visits: Sequence[Visit]


def running_max(x: Tensor, axes: Sequence[Axis]) -> tuple[Tensor, Tensor]:
    """x (..., *S) -> the largest values (..., *O) and their places, uint8 if that can count them, else int32.

    Of equal values the first one row by row is taken, of several NaN the last, as torch.nn does. Not differentiable.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or x.numel() == 0:
        return _all_axes(x, axes, x.is_floating_point())
    y, places = x, x
    for dim, axis in enumerate(axes, -len(axes)):
        y = empty_along(y, dim, axis.outputs, x.dtype)
        places = empty_along(places, dim, axis.outputs, place_dtype([axis.kernel for axis in axes]))
    for part, y_part, places_part in in_parts(x, y, places):
        # A look at every value for NaN takes a third of the time. The sum of the results shows whether there is any.
        largest, found = _all_axes(part, axes, has_nan=False)
        if x.is_floating_point() and bool(largest.sum().isnan()):
            largest, found = _all_axes(part, axes, has_nan=True)
        y_part.copy_(largest)
        places_part.copy_(found)
    return y, places


def in_parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors (N, ...) cut alike, so that a part of the first one has about CHUNK elements."""
    examples = max(1, CHUNK * len(tensors[0]) // max(1, tensors[0].numel()))
    return zip(*(torch.split(tensor, examples) for tensor in tensors), strict=True)


def place_dtype(kernel_size: Sequence[int]) -> torch.dtype:
    """What can count the places of a window: a byte for up to 256 of them."""
    return torch.uint8 if math.prod(kernel_size) <= 256 else torch.int32


def _all_axes(x: Tensor, axes: Sequence[Axis], has_nan: bool) -> tuple[Tensor, Tensor]:
    """The last axis first: of equal values in a row the first, then of equal rows the first, is row by row."""
    places, dtype, weight = None, place_dtype([axis.kernel for axis in axes]), 1
    size = x.shape[-len(axes) :]
    if all(
        axis.outputs == 1 and length == axis.kernel == len(axis.visits) for axis, length in zip(axes, size, strict=True)
    ):
        return _one_window(x, len(axes), dtype, has_nan)
    for dim, axis in zip(range(-1, -len(axes) - 1, -1), reversed(axes), strict=True):
        x, places = _one_axis(x, places, dim, axis, weight, dtype, has_nan)
        weight *= axis.kernel
    assert places is not None
    return x, places


def _one_window(x: Tensor, axes: int, dtype: torch.dtype, has_nan: bool) -> tuple[Tensor, Tensor]:
    """One window over the whole image. Its place is found by ranks: the first position has the highest one."""
    flat = x.flatten(-axes)
    count = flat.shape[-1]
    y = flat.amax(-1, keepdim=True)
    exact = torch.float32 if count < 2**24 else torch.float64  # can count the places
    rank = torch.arange(count, 0, -1, device=x.device, dtype=exact)
    places = count - (_equal(flat, y).to(exact) * rank).amax(-1, keepdim=True)
    if has_nan:
        last = ((flat != flat) * rank.flip(0)).amax(-1, keepdim=True) - 1
        places = torch.where(y != y, last, places)
    shape = (*x.shape[:-axes], *[1] * axes)
    return y.reshape(shape), places.to(dtype).reshape(shape)


def _one_axis(
    x: Tensor, places: Tensor | None, dim: int, axis: Axis, weight: int, dtype: torch.dtype, has_nan: bool
) -> tuple[Tensor, Tensor]:
    """x (..., S, ...) -> (..., O, ...) on `dim`, and the places: those in the axes before and in this one."""
    y, chosen = x, empty_along(x, dim, axis.outputs, dtype)
    # Whether y is memory of ours: a first visit to all windows is a view of x, copied once a later one writes to it.
    is_own = False
    for windows, offset, begins, values in axis.visits:
        seen = values(x)
        place = offset * weight if places is None else values(places) + offset * weight
        is_whole = windows == slice(0, axis.outputs)
        if not is_own and not is_whole:
            y, is_own = y.clone() if y.shape == chosen.shape else empty_along(x, dim, axis.outputs, x.dtype), True
        best, best_place = along(y, dim, windows), along(chosen, dim, windows)
        if begins:
            y = seen if is_whole else y
            if is_own:
                best.copy_(seen)
            if isinstance(place, Tensor):
                best_place.copy_(place)
            else:
                best_place.fill_(place)
            continue
        wins = _greater(seen, best)
        if has_nan:
            wins = wins.logical_or_(seen != seen)
        largest = torch.maximum(best, seen, out=reuse(best) if is_own else None)
        if is_own:
            best.copy_(largest)
        else:
            y, is_own = largest, True
        # Places grow from visit to visit, so the last winner's is the largest. `where` takes many times as long.
        place = (wins.view(torch.uint8) * place).to(dtype)
        best_place.copy_(torch.maximum(best_place, place, out=reuse(best_place)))
    return (y if is_own else y.clone()), chosen


def _greater(x: Tensor, y: Tensor) -> Tensor:
    """x > y. On a CPU a comparison of neighbours in memory is vectorized only if its result is floats too."""
    return torch.gt(x, y, out=torch.empty_like(y)).bool() if _is_vectorized(x) else x > y


def _equal(x: Tensor, y: Tensor) -> Tensor:
    """x == y, as floats if that is faster."""
    return torch.eq(x, y, out=torch.empty_like(x)) if _is_vectorized(x) else x == y


def _is_vectorized(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.compiler.is_compiling() and x.stride(memory_order(x)[-1]) == 1


def strided_axis(size: int, dim: int, count: int, kernel: int, stride: int, padding: int, dilation: int) -> Axis:
    """The axis `dim` of `size` positions under windows that are `stride` apart."""
    visits = []
    begun = count  # windows from here on have seen a value: padding hides the first ones of the windows before
    for k, windows, positions in offsets(size, count, kernel, stride, padding, dilation):
        first, last, start = windows.start, windows.stop, positions.start
        split = min(max(first, begun), last)
        for begins, one, other in ((True, first, split), (False, split, last)):
            if one < other:
                here = start + (one - first) * stride
                there = slice(here, here + (other - 1 - one) * stride + 1, stride)
                visits.append(Visit(slice(one, other), k, begins, functools.partial(along, dim=dim, index=there)))
        begun = min(begun, first)
    return Axis(count, kernel, visits)


def flat_positions(places: Tensor, starts: Sequence[Tensor], steps: Sequence[Tensor], size: Sizes) -> Tensor:
    """Places (..., *O) -> positions in the image of S, counted row by row, int64.

    Args:
        starts: for each axis where its windows begin, (O,).
        steps: for each axis how far from there each offset is, (K,).
    """
    start, step = starts[0], steps[0]
    for length, axis_starts, axis_steps in zip(size[1:], starts[1:], steps[1:], strict=True):
        start = start[..., None] * length + axis_starts  # (*O): h W + w
        step = step[..., None] * length + axis_steps  # (*K)
    if torch.compiler.is_compiling():
        return step.reshape(-1)[places.int()] + start
    order = memory_order(places)
    in_memory = places.permute(order)
    found = step.reshape(-1).index_select(0, in_memory.reshape(-1).int()).reshape(in_memory.shape)
    return found.permute([order.index(axis) for axis in range(places.dim())]) + start
