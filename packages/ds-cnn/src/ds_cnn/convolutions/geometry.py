"""Sizes of convolutions along their spatial axes, and the arguments that set them. Theory: docs/conv.md."""

import operator
from collections.abc import Iterable, Sequence

from ds_core import ShapeError

# S = size of an axis of the input, P = of the output, K = of the kernel, t = stride, a = padding, d = dilation

Sizes = tuple[int, ...]  # one number per spatial axis


def per_axis(value: int | Iterable[int], axes: int, name: str) -> Sizes:
    """One number for each spatial axis, from one for all or from one for each.

    Raises:
        ValueError: `value` is neither; `name` says in the message what it is.
    """
    given = tuple(value) if isinstance(value, Iterable) else (value,) * axes
    try:
        values = tuple(operator.index(number) for number in given)  # NumPy's numbers too
    except TypeError:
        values = ()
    if len(values) != axes or any(isinstance(number, bool) for number in given):
        raise ValueError(f"{name}: given {value!r}, expected one int" + (f", or {axes} of them" if axes > 1 else ""))
    return values


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """P, how many windows fit into an axis; below 1 if it is too short for one."""
    span = dilation * (kernel - 1) + 1  # what a window covers, gaps included
    return (size + 2 * padding - span) // stride + 1  # P = floor((S + 2a - d (K - 1) - 1) / t) + 1            (1)


def output_sizes(size: Sequence[int], kernel_size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Sizes:
    """`output_size` of every axis."""
    axes = zip(size, kernel_size, stride, padding, dilation, strict=True)
    return tuple(output_size(*axis) for axis in axes)


def transposed_size(size: int, kernel: int, stride: int, padding: int, dilation: int, extra: int = 0) -> int:
    """The shortest axis that a convolution turns into one of `size`, and `extra` (the output padding)."""
    return (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + extra  # (3) of transposed_convolution.md


def same_padding(kernel_size: Sizes, dilation: Sizes) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis, such that a stride of 1 keeps the size; an odd one goes to the end."""
    totals = [d * (k - 1) for k, d in zip(kernel_size, dilation, strict=True)]  # before + after = d (K - 1)  (2)
    return tuple((total // 2, total - total // 2) for total in totals)


def check_input(layer: object, shape: Sequence[int], channels: int, axes: int) -> None:
    """Raise `ShapeError`, naming `layer`, unless `shape` is (N, C, *S) or (C, *S) with these channels."""
    if len(shape) not in (axes + 1, axes + 2) or shape[len(shape) - axes - 1] != channels:
        sizes = ", ".join("DHW"[3 - axes :] if axes > 1 else "L")
        raise ShapeError(
            f"{layer}: given input of shape {tuple(shape)}, expected (N, {channels}, {sizes}) or ({channels}, {sizes})"
        )
