"""Winograd's matrices, derived from points of polynomials, and how to multiply by them. Theory: docs/winograd.md."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from ds_core import reuse
from torch import Tensor

# t = outputs of a tile along an axis, 3 = kernel size, r = t + 2 = inputs of the tile = points of evaluation

POINTS = (0, 1, -1, 2, -2)  # and infinity; a point and its negative share most of their additions

Row = tuple[float, ...]


class Matrices(NamedTuple):
    """y = A^T (G w * B^T x) for one tile: x (r), w (3), y (t); rows of each matrix belong to the r points.

    Attributes:
        inputs: B^T (r, r).
        kernel: G (r, 3).
        outputs: A (r, t).
    """

    inputs: tuple[Row, ...]
    kernel: tuple[Row, ...]
    outputs: tuple[Row, ...]


def winograd_matrices(tile: int) -> Matrices:
    """The matrices for tiles of `tile` outputs, 2 or 4."""
    points = [Fraction(point) for point in POINTS[: tile + 1]]
    inputs, kernel, outputs = [], [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        inputs.append([*_with_roots(others), Fraction(0)])  # the row of prod_j (z - z_j)                        (4)
        kernel.append([point**i / scale for i in range(3)])  # g(z) / prod_j (z_i - z_j)                         (5)
        outputs.append([point**i for i in range(tile)])  # d(z)                                                  (6)
    inputs.append(_with_roots(points))  # infinity: the leading coefficients                                     (7)
    kernel.append([Fraction(i == 2) for i in range(3)])
    outputs.append([Fraction(i == tile - 1) for i in range(tile)])
    return Matrices(*(tuple(tuple(map(float, row)) for row in rows) for rows in (inputs, kernel, outputs)))


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of prod (z - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised, scaled = [Fraction(0), *coefficients], [*coefficients, Fraction(0)]
        coefficients = [a - root * b for a, b in zip(raised, scaled, strict=True)]
    return coefficients


# Derived once: under the compiler these are numbers.
MATRICES = {tile: winograd_matrices(tile) for tile in (2, 4)}


def to_points(matrix: Sequence[Row], parts: Sequence[Tensor]) -> Tensor:
    """matrix (r, i) times i tensors of one shape -> (r, *shape), by additions alone if nothing traces.

    The rows of z and -z are E + O and E - O: both have the same even powers, and the odd ones with the sign turned.
    """
    whole = reuse(parts[0].new_empty(len(matrix), *parts[0].shape))
    if whole is None:
        return _product(_table(matrix, parts[0]), parts)
    out = whole.unbind(0)
    _row(matrix[0], parts, out[0])
    for i in range(1, len(matrix) - 1, 2):
        pair = list(zip(matrix[i], matrix[i + 1], strict=True))
        even = _row([(plus + minus) / 2 for plus, minus in pair], parts, out[i])
        scale, odd = weighted_sum([(plus - minus) / 2 for plus, minus in pair], parts, out[-1])
        torch.sub(even, odd, alpha=scale, out=out[i + 1])
        torch.add(even, odd, alpha=scale, out=out[i])
    _row(matrix[-1], parts, out[-1])
    return whole


def from_points(matrix: Sequence[Row], parts: Sequence[Tensor]) -> Tensor:
    """The transpose of matrix (r, t) times r tensors of one shape -> (t, *shape), by additions if nothing traces."""
    whole = reuse(parts[0].new_empty(len(matrix[0]), *parts[0].shape))
    if whole is None:
        return _product(_table(matrix, parts[0]).T, parts)
    write_from_points(matrix, parts, whole.unbind(0))
    return whole


def write_from_points(matrix: Sequence[Row], parts: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """`from_points`, into the t tensors `out`.

    Even powers of z and -z share the sum of their tensors, odd ones the difference.
    """
    first, *paired, last = parts
    pairs = range(0, len(paired), 2)
    sums = [paired[i] + paired[i + 1] for i in pairs]
    differences = [paired[i] - paired[i + 1] for i in pairs]
    for power, place in enumerate(out):
        weights = [matrix[0][power], *(matrix[i + 1][power] for i in pairs), matrix[-1][power]]
        shared = differences if power % 2 else sums
        _row(weights, [first, *shared, last], place)


def weighted_sum(weights: Sequence[float], parts: Sequence[Tensor], out: Tensor | None = None) -> tuple[float, Tensor]:
    """A number and a tensor whose product is sum_i weights_i parts_i: the smallest weight is left to the caller."""
    used = sorted((abs(weight), weight < 0, i) for i, weight in enumerate(weights) if weight)
    first = used[0][2]
    total = parts[first]
    for _, _, i in used[1:]:
        total = torch.add(total, parts[i], alpha=weights[i] / weights[first], out=out)
    return weights[first], total


def _row(weights: Sequence[float], parts: Sequence[Tensor], out: Tensor) -> Tensor:
    """sum_i weights_i parts_i, in `out`."""
    scale, total = weighted_sum(weights, parts, out)
    if scale != 1:
        return torch.mul(total, scale, out=out)
    return out if total is out else out.copy_(total)


def _table(matrix: Sequence[Row], like: Tensor) -> Tensor:
    return torch.tensor(matrix, dtype=like.dtype, device=like.device)


def _product(table: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """table (j, i) times i tensors of one shape -> (j, *shape)."""
    return (table @ torch.stack(list(parts)).flatten(1)).view(len(table), *parts[0].shape)
