"""What the arguments of `interpolate` ask for, axis by axis, or why they make no sense. Theory: docs/interpolate.md."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy
import torch
from ds_core import ShapeError
from ds_core.arguments import shown
from torch import Tensor

from ds_cnn.resampling.sampling_axis import Axis, make_axis

Number = TypeVar("Number", int, float)

# The modes, and the number of axes that each is for (0: any of 1, 2, 3)
MODES = {
    "nearest": 0,
    "nearest-exact": 0,
    "linear": 1,
    "bilinear": 2,
    "trilinear": 3,
    "bicubic": 2,
    "lanczos": 2,
    "area": 0,
}
LAYOUTS = {1: "(N, C, W)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}
ALIGNABLE = ("linear", "bilinear", "trilinear", "bicubic")
ANTIALIASED = ("bilinear", "bicubic", "lanczos")
KERNELS = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}  # the others are called as the mode


class Options(NamedTuple):
    """The arguments of `interpolate` beside the image."""

    size: int | Sequence[int] | None = None
    scale_factor: float | Sequence[float] | None = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None
    antialias: bool = False


class Resampling(NamedTuple):
    """What is to be done: one kernel on each axis."""

    kernel: str
    axes: tuple[Axis, ...]


def check_options(owner: object, options: Options) -> None:
    """Everything that can be said before an image is there.

    Raises:
        ValueError: for arguments that exclude each other, an unknown mode, a size below 1.
        TypeError: for a size that is no whole number, or a factor that is no number.
    """
    size, scale_factor, mode, align_corners, recompute_scale_factor, antialias = options
    _check_mode(owner, mode)
    if (size is None) == (scale_factor is None):
        given = "neither of size and scale_factor" if size is None else f"size={size} and scale_factor={scale_factor}"
        raise ValueError(f"{owner}: given {given}, expected one of the two")
    expected: list[tuple[str, Any, Any, str]] = [
        ("size", size, numbers.Integral, "a whole number"),
        ("scale_factor", scale_factor, numbers.Real, "a number"),
    ]
    for name, value, kind, what in expected:
        for number in _numbers(value):
            if isinstance(number, bool) or not isinstance(number, kind):  # NumPy's are among them
                raise TypeError(
                    f"{owner}: given {name}={shown(value)}, expected {what}, or one for each axis of the image"
                )
            if not 0 < number < math.inf:
                raise ValueError(f"{owner}: given {name}={value!r}, expected finite numbers above 0")
    if size is not None and recompute_scale_factor:
        raise ValueError(
            f"{owner}: given recompute_scale_factor with a size, which has no factor: leave one of them out"
        )
    if align_corners is not None and mode not in ALIGNABLE and not (mode == "lanczos" and not align_corners):
        raise ValueError(f"{owner}: given align_corners with mode={mode!r}, expected it with {', '.join(ALIGNABLE)}")
    if antialias and mode not in ANTIALIASED:
        raise ValueError(f"{owner}: given antialias with mode={mode!r}, expected it with {', '.join(ANTIALIASED)}")
    if mode == "lanczos" and not antialias:
        raise ValueError(f"{owner}: given mode='lanczos' without antialias=True, which it needs")


def resampling(owner: object, input_size: Sequence[int], options: Options) -> Resampling:
    """The kernel and the axes for an image of `input_size`, the sizes behind batch and channels.

    Raises:
        ShapeError: the image has another number of axes than the mode or the arguments, or no positions, or the
            output would have none.
        ValueError, TypeError: from `check_options`.
    """
    check_options(owner, options)
    size, scale_factor, mode, align_corners, recompute_scale_factor, antialias = options
    axes = len(input_size)
    if axes not in LAYOUTS or MODES[mode] not in (0, axes):
        expected = LAYOUTS[MODES[mode]] if MODES[mode] else ", ".join(LAYOUTS.values())
        raise ShapeError(
            f"{owner}: given an image of {axes} axes {tuple(input_size)}, expected {expected} for {mode!r}"
        )
    factors = _for_axes(owner, "scale_factor", scale_factor, axes)
    counts = _for_axes(owner, "size", size, axes)
    if factors is not None:
        counts = [int(positions * factor) for positions, factor in zip(input_size, factors, strict=True)]
        if recompute_scale_factor or mode == "area":
            factors = None
    assert counts is not None
    if min(*input_size, *counts) < 1:
        raise ShapeError(f"{owner}: given an image of {tuple(input_size)} and an output of {tuple(counts)} positions")
    kernel = KERNELS.get(mode, mode)
    made = []
    for d, (positions, count) in enumerate(zip(input_size, counts, strict=True)):
        # PyTorch takes the step from the sizes if a factor such as 1.1 leads to the same size, or twice it
        doubled = 2 * positions if mode == "nearest" and axes == 2 else positions
        is_special = (antialias or doubled > positions) and count in (positions, doubled)
        factor = None if factors is None or is_special else factors[d]
        made.append(make_axis(positions, count, factor, bool(align_corners)))
    return Resampling(f"antialiased {kernel}" if antialias else kernel, tuple(made))


def check_image(owner: object, x: Tensor, mode: str) -> None:
    """Raise `ShapeError` unless `x` has channels, and is floating, or of bytes that are only copied."""
    _check_mode(owner, mode)
    if x.dim() < 3 or (x.shape[1] == 0 and mode != "area"):
        expected = LAYOUTS.get(MODES[mode], ", ".join(LAYOUTS.values()))
        raise ShapeError(f"{owner}: given input of shape {tuple(x.shape)}, expected {expected} for mode={mode!r}")
    is_copied = mode in ("nearest", "nearest-exact")
    if not x.is_floating_point() and not (is_copied and x.dtype == torch.uint8):
        raise ShapeError(f"{owner}: given input in {x.dtype}, expected a floating dtype{' or uint8' * is_copied}")


def check_gradient(owner: object, dy: Tensor, axes: tuple[Axis, ...]) -> None:
    """Raise `ShapeError` unless `dy` has the shape of the output."""
    counts = tuple(axis.count for axis in axes)
    if tuple(dy.shape[2:]) != counts:
        raise ShapeError(f"{owner}: given a gradient of shape {tuple(dy.shape)}, expected (N, C, *{counts})")


def _check_mode(owner: object, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"{owner}: given mode={mode!r}, expected one of {', '.join(MODES)}")


def _numbers(value: object) -> Sequence[Any]:
    """One by one, whatever they are."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _for_axes(owner: object, name: str, value: Number | Sequence[Number] | None, axes: int) -> Sequence[Number] | None:
    if value is None:
        return None
    numbers_given = [number.item() if isinstance(number, numpy.generic) else number for number in _numbers(value)]
    if not isinstance(value, Sequence):
        return numbers_given * axes
    if len(value) != axes:
        raise ShapeError(f"{owner}: given {name}={value} for an image of {axes} axes, expected one number, or {axes}")
    return numbers_given
