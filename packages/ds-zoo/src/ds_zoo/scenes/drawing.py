"""Digits of 8 x 8 values drawn at any size. Theory: docs/scenes/scenes.md."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ds_zoo.scenes.digits import Part, load_digits

# n = digits of a part, S = side of a drawn digit in pixels, h, w = height and width of what of it shows

Array = npt.NDArray[np.float32]

_SIDE = 8  # values of a digit to each side
_FAINT, _FULL = 0.25, 0.65  # values below are paper, values above full ink: strokes get an edge of one or two pixels
INK = 0.5  # what covers at least this much of a pixel belongs to the digit's mask


def enlargement(size: int) -> Array:
    """(S, 8): each row holds the weights of the old values in one new one, by cubic interpolation (Catmull-Rom).

    Beyond the edge lies paper, so the weights of values there are left out.
    """
    centres = (np.arange(size) + 0.5) * _SIDE / size - 0.5
    distance = np.abs(centres[:, None] - np.arange(_SIDE))
    # w(d) by the distance d, in two pieces                                                            (1)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0)).astype(np.float32)


class DrawnDigits:
    """All digits of one part drawn on S x S pixels; drawn once, since a scene has no time for it.

    Attributes:
        ink: (n, S, S) float32, how much of each pixel is ink: 0 to 1.
        edges: (top, bottom, left, right) of each digit, without the empty rows and columns around it.
    """

    def __init__(self, images: Array, size: int) -> None:
        weights = enlargement(size)
        # ink = (v - faint) / (full - faint), cut to 0 and 1                                           (2)
        self.ink: Array = np.clip((weights @ images @ weights.T - _FAINT) * np.float32(1 / (_FULL - _FAINT)), 0, 1)
        rows, columns = self.ink.any(2), self.ink.any(1)
        edges = (rows.argmax(1), size - rows[:, ::-1].argmax(1), columns.argmax(1), size - columns[:, ::-1].argmax(1))
        self.edges: list[list[int]] = np.stack(edges, 1).tolist()

    def __getitem__(self, number: int) -> Array:
        """Digit `number` (h, w), cut out of its square. A view: do not change it."""
        top, bottom, left, right = self.edges[number]
        return self.ink[number, top:bottom, left:right]


@lru_cache(maxsize=64)
def drawn_digits(part: Part, size: int) -> DrawnDigits:
    """The digits of `load_digits(part)` drawn on `size` x `size` pixels."""
    return DrawnDigits(load_digits(part).images, size)
