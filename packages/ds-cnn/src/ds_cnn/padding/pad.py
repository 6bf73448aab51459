"""Padding: a border around the last axes, of one value or of what lies inside; negative: a cut. Theory: docs/pad.md."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from ds_core import ShapeError, fast_form
from ds_core.arguments import check_tensors
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

# S = size of an axis, l, r = what is added before and after it; with several axes S, O = sizes of all of them, before
# and after. `padding` is (l, r) of the last axis, then of the one before it, and so on.

Mode = Literal["constant", "reflect", "replicate", "circular"]
MODES: tuple[Mode, ...] = ("constant", "reflect", "replicate", "circular")


def plain_pad(x: Tensor, padding: tuple[int, ...], mode: Mode = "constant", value: float = 0.0) -> Tensor:
    """x (..., *S) -> y (..., *O)."""
    sizes = x.shape[x.dim() - len(padding) // 2 :]
    padded = padded_sizes(sizes, padding, mode)
    y = torch.full((*x.shape[: x.dim() - len(sizes)], *padded), value, dtype=x.dtype, device=x.device)
    for o in itertools.product(*[range(size) for size in padded]):
        s = sources(o, sizes, padding, mode)
        if s is not None:
            y[at(o)] = x[at(s)]  # y_o = x_s(o)                                                               (1) to (5)
    return y


def plain_pad_backward(dy: Tensor, input_size: Sequence[int], padding: tuple[int, ...], mode: Mode) -> Tensor:
    """dy (..., *O), input_size: the whole shape (..., *S) of x -> dx (..., *S)."""
    sizes = tuple(input_size[len(input_size) - len(padding) // 2 :])
    dx = torch.zeros(tuple(input_size), dtype=wide_dtype(dy), device=dy.device)
    for o in itertools.product(*[range(size) for size in dy.shape[dy.dim() - len(sizes) :]]):
        s = sources(o, sizes, padding, mode)
        if s is not None:
            dx[at(s)] += dy[at(o)]  # dx_i = sum of dy_o over all o with s(o) = i                                    (6)
    return dx.to(dy.dtype)


def sources(o: tuple[int, ...], sizes: Sequence[int], padding: tuple[int, ...], mode: Mode) -> tuple[int, ...] | None:
    """s(o), the position of x that output position o shows; None: it shows the value."""
    found = [source(*axis, mode) for axis in zip(o, sizes, *before_and_after(padding), strict=True)]
    positions = tuple(s for s in found if s is not None)
    return positions if len(positions) == len(found) else None


def at(position: tuple[int, ...]) -> tuple[Any, ...]:
    """The index of a position in the last axes, whatever stands before them."""
    return (..., *position)


def source(o: int, size: int, before: int, after: int, mode: Mode) -> int | None:
    """s(o) on one axis."""
    i = o - before
    if mode == "reflect":
        i = abs(i)
        return min(i, 2 * (size - 1) - i)  # mirrored at 0, then at S - 1                                          (3)
    if mode == "replicate":
        return min(max(i, 0), size - 1)  # the nearest position                                                    (4)
    start, end = max(0, -before), size - max(0, -after)  # what a cut leaves
    if mode == "circular":
        return start + (i - start) % (end - start)  # around and around                                            (5)
    return i if start <= i < end else None  # the position itself, or the value                                    (2)


def before_and_after(padding: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """l and r of each axis, the axes in the order of the shape."""
    return padding[-2::-2], padding[::-2]


def padded_sizes(
    sizes: Sequence[int], padding: tuple[int, ...], mode: Mode = "constant", owner: object = "pad"
) -> tuple[int, ...]:
    """O, the sizes of the padded axes: S + l + r.

    Raises:
        ShapeError: naming `owner`, for a cut of more than there is, a reflection of S or more, or more than one turn.
    """
    padded = tuple(s + before + after for s, before, after in zip(sizes, *before_and_after(padding), strict=True))
    for s, before, after, o in zip(sizes, *before_and_after(padding), padded, strict=True):
        left = s + min(before, 0) + min(after, 0)  # of the axis, after a cut
        wrong = {
            "constant": left < 0 or -before > s or -after > s,
            "reflect": max(before, after) >= s or o < 1,
            "replicate": s < 1 or o < 1,
            "circular": max(before, after, 0) > left,
        }
        if wrong[mode]:
            limit = {
                "constant": "a cut within the axis",
                "reflect": "less padding than the axis is long, and an output of 1 or more",
                "replicate": "an input and an output of 1 or more",
                "circular": "no more padding than the axis is long",
            }
            raise ShapeError(
                f"{owner}: given padding ({before}, {after}) of an axis of size {s}, expected {limit[mode]}"
            )
    return padded


# The interior is copied once, and each border is a slice of what stands there already, axis after axis, so that the
# corners come by themselves. Sums of half precision are taken in float32.
@fast_form(plain_pad)
def pad(x: Tensor, padding: tuple[int, ...], mode: Mode = "constant", value: float = 0.0) -> Tensor:
    """x (..., *S) -> y (..., *O), in the memory order of x; a view of x if nothing is added.

    Args:
        x: of any dtype.
        padding: (l, r) of the last axis, then of the one before it, and so on, as torch.nn.functional.pad takes it.
            A negative number cuts off.
        mode: "constant" puts `value` around x, "reflect" mirrors x without repeating its edge, "replicate" repeats the
            edge, "circular" continues with the other end.

    Raises:
        TypeError: for an x that is no tensor.
        ValueError: for a padding that is not two whole numbers for each of the last axes, or an unknown mode.
        ShapeError: for a cut of more than there is, a reflection of S or more, or more than once around.
    """
    check_tensors("pad", x=x)
    if mode not in MODES:
        raise ValueError(f"pad: given mode={mode!r}, expected one of {', '.join(MODES)}")
    if len(padding) % 2 or len(padding) // 2 > x.dim():
        raise ValueError(
            f"pad: given padding={padding} for shape {tuple(x.shape)}, expected two numbers for each of its last axes"
        )
    padded_sizes(x.shape[x.dim() - len(padding) // 2 :], padding, mode)
    grown, cut = tuple(max(0, p) for p in padding), tuple(min(0, p) for p in padding)
    if mode in ("reflect", "replicate"):  # the border may show what is cut off at the other end
        return _cut(_grown(x, grown, mode, value), cut)
    return _grown(_cut(x, cut), grown, mode, value)


@fast_form(plain_pad_backward)
def pad_backward(dy: Tensor, input_size: Sequence[int], padding: tuple[int, ...], mode: Mode = "constant") -> Tensor:
    """dy (..., *O), input_size: the whole shape (..., *S) of x -> dx (..., *S); a view of dy if it is a part of it."""
    grown, cut = tuple(max(0, -p) for p in padding), tuple(-max(0, p) for p in padding)
    if mode == "constant":
        return pad(dy, tuple(-p for p in padding))  # dx = dy padded by -l and -r                                  (7)
    shape = list(dy.shape)
    shape[dy.dim() - len(padding) // 2 :] = input_size[len(input_size) - len(padding) // 2 :]
    if mode == "circular":  # each step of forward in reverse order
        for axis in range(len(padding) // 2):
            shape[-1 - axis] -= grown[2 * axis] + grown[2 * axis + 1]
        return _grown(_folded(dy, shape, cut, mode), grown, "constant", 0.0)
    return _folded(_grown(dy, grown, "constant", 0.0), shape, cut, mode)


class _Border(NamedTuple):
    start: int  # of the border in the padded axis
    length: int
    source: int  # where that begins, within x, what the border shows
    shown: int  # how many positions those are


def _borders(size: int, before: int, after: int, mode: Mode) -> list[_Border]:
    """Both borders of an axis, those that are there."""
    first, last = _Border(0, before, 0, before), _Border(before + size, after, 0, after)
    if mode == "reflect":
        first, last = first._replace(source=1), last._replace(source=size - 1 - after)
    elif mode == "replicate":
        first, last = first._replace(shown=1), last._replace(source=size - 1, shown=1)
    else:
        first = first._replace(source=size - before)
    return [border for border in (first, last) if border.length > 0]


def _cut(x: Tensor, cut: tuple[int, ...]) -> Tensor:
    """x without the first and last numbers of each axis, a view; `cut` holds what `padding` does, none positive."""
    for axis in range(len(cut) // 2):
        before, after = cut[2 * axis : 2 * axis + 2]
        if before or after:
            x = x.narrow(-1 - axis, -before, x.shape[-1 - axis] + before + after)
    return x


def _grown(x: Tensor, grown: tuple[int, ...], mode: Mode, value: float) -> Tensor:
    """x with its borders; none of `grown` is negative."""
    if not any(grown):
        return x
    shape = list(x.shape)
    for axis in range(len(grown) // 2):
        shape[-1 - axis] += grown[2 * axis] + grown[2 * axis + 1]
    y = _empty(shape, x)
    parts = [y]  # all of y, then without the borders of the last axis, and so on to the place of x
    for axis in range(len(grown) // 2):
        parts.append(parts[-1].narrow(-1 - axis, grown[2 * axis], x.shape[-1 - axis]))
    parts[-1].copy_(x)
    for axis in reversed(range(len(grown) // 2)):
        before, after = grown[2 * axis : 2 * axis + 2]
        size, whole = x.shape[-1 - axis], parts[axis]
        for border in _borders(size, before, after, mode):
            target = whole.narrow(-1 - axis, border.start, border.length)
            if mode == "constant":
                target.fill_(value)
                continue
            shown = whole.narrow(-1 - axis, before + border.source, border.shown)
            target.copy_(shown.flip(-1 - axis) if mode == "reflect" else shown)
    return y


def _folded(dy: Tensor, shape: Sequence[int], cut: tuple[int, ...], mode: Mode) -> Tensor:
    """dy with each border added to what it shows, (*shape); `cut` is minus the borders' sizes."""
    if not any(cut):
        return dy
    dx = _sum_of_copies(widened(dy), shape, cut, mode, len(cut) // 2 - 1)
    return dx.to(dy.dtype)


def _sum_of_copies(dy: Tensor, shape: Sequence[int], cut: tuple[int, ...], mode: Mode, axis: int) -> Tensor:
    """Axes `axis` to 0, counted from the last, folded: new memory."""
    if axis < 0:
        return dy.clone()
    before, after, size, dim = -cut[2 * axis], -cut[2 * axis + 1], shape[-1 - axis], -1 - axis
    # dx_i = dy_{i + l}, and the borders' parts                                                                    (6)
    dx = _sum_of_copies(dy.narrow(dim, before, size), shape, cut, mode, axis - 1)
    for border in _borders(size, before, after, mode):
        part = dy.narrow(dim, border.start, border.length)
        if mode == "replicate":
            part = part.sum(dim, keepdim=True)
        elif mode == "reflect":
            part = part.flip(dim)
        part = _sum_of_copies(part, shape, cut, mode, axis - 1)
        dx.narrow(dim, border.source, border.shown).add_(part)
    return dx


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """Memory for `shape`, its axes in the same order as in the memory of `like`."""
    if like.is_contiguous():
        return like.new_empty(shape)
    order = sorted(range(like.dim()), key=like.stride().__getitem__, reverse=True)
    memory = like.new_empty([shape[axis] for axis in order])
    return memory.permute([order.index(axis) for axis in range(like.dim())])
