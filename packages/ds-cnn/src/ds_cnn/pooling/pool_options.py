"""Arguments and inputs of pooling layers: read, and refused if they make no sense."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from ds_core import ShapeError
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes, per_axis


class Geometry(NamedTuple):
    """How windows lie in an image: one number for each spatial axis."""

    kernel_size: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes


def read_geometry(
    layer: object,
    axes: int,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
) -> Geometry:
    """The geometry that a layer was given; a stride of None is the kernel size.

    Raises:
        ValueError: for another number of axes, or for windows, steps or padding that make no sense.
    """
    name = type(layer).__name__
    given = {
        "kernel_size": kernel_size,
        "stride": kernel_size if stride is None else stride,
        "padding": padding,
        "dilation": dilation,
    }
    geometry = Geometry(*(per_axis(_unwrapped(value), axes, f"{name}: {key}") for key, value in given.items()))
    described = f"{name}({', '.join(f'{key}={value}' for key, value in geometry._asdict().items())})"
    if min(*geometry.kernel_size, *geometry.stride, *geometry.dilation) < 1:
        raise ValueError(f"{described}: kernel_size, stride and dilation must be 1 or more")
    spans = [d * (k - 1) + 1 for k, d in zip(geometry.kernel_size, geometry.dilation, strict=True)]
    if any(not 0 <= p <= span // 2 for p, span in zip(geometry.padding, spans, strict=True)):
        raise ValueError(f"{described}: padding must be 0 or more and at most half of what a window spans, {spans}")
    return geometry


def check_numbers(layer: object, x: Tensor) -> None:
    """Raise `ShapeError` unless `x` holds real numbers, integers included."""
    if x.dtype == torch.bool or x.is_complex():
        raise ShapeError(f"{layer!r}: given input in {x.dtype}, expected a floating or an integer dtype")


def spatial_size(layer: object, x: Tensor, axes: int) -> Sizes:
    """The spatial axes of `x`, which is (N, C, *S) or (C, *S) with something in each axis but N.

    Raises:
        ShapeError: it is of another rank, or has an empty axis.
    """
    shape = tuple(x.shape)
    if len(shape) not in (axes + 1, axes + 2) or 0 in shape[-axes - 1 :]:
        letters = ", ".join("DHW"[-axes:] if axes > 1 else "L")
        raise ShapeError(
            f"{layer!r}: given input of shape {shape}, expected (N, C, {letters}) or (C, {letters}), "
            "of which only N may be 0"
        )
    return shape[-axes:]


def _unwrapped(value: Any) -> Any:
    """The number in a sequence of one, which counts for all axes as in torch.nn."""
    return value[0] if isinstance(value, Sequence) and len(value) == 1 else value
