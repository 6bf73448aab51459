"""Winograd's matrices, derived from points of polynomials, for one axis and for both. Theory: docs/winograd.md."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

# t = outputs of a tile along an axis, 3 = kernel size, r = t + 2 = inputs of the tile = points of evaluation

POINTS = (0, 1, -1, 2, -2)  # and infinity; small, so that the numbers stay small

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


def both_axes(matrix: Sequence[Row], like: Tensor) -> Tensor:
    """matrix (r, i) -> (r^2, i^2): what it does to the columns and to the rows of an image, as one matrix.

    The Kronecker product of the matrix with itself; positions of an image and pairs of points go by rows.
    """
    one = torch.tensor(matrix, dtype=like.dtype, device=like.device)
    return (one[:, None, :, None] * one[None, :, None, :]).flatten(2).flatten(0, 1)  # vec(M x M^T)          (13)
