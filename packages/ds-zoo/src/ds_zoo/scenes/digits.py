"""Handwritten digits, some to train on and some that training never sees. Theory: docs/scenes/scenes.md."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from ds_core.data import split_indices
from ds_core.data.scikit_learn import from_scikit_learn

# n = digits of a part

Part = Literal["training", "held_out"]
PARTS: tuple[str, ...] = get_args(Part)
CLASSES = 10

_HELD_OUT = 360  # of 1,797
_SPLIT_SEED = 0  # the same parts for everybody, whatever the seed of a run
_LARGEST = 16


@dataclass(frozen=True)
class Digits:
    """The digits of one part.

    Attributes:
        images: (n, 8, 8) float32, 0 for paper and 1 for ink.
        labels: (n,) int64, 0 to 9.
        of_class: for each class, the numbers of its images.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    of_class: tuple[tuple[int, ...], ...]


@lru_cache(maxsize=len(PARTS))
def load_digits(part: Part = "training") -> Digits:
    """1,437 of scikit-learn's digits for training or the other 360, every class in the same proportion.

    Raises:
        ValueError: another part.
        MissingPackageError: scikit-learn is not installed.
    """
    if part not in PARTS:
        raise ValueError(f"load_digits: given part={part!r}, expected one of {list(PARTS)}")
    images, labels = from_scikit_learn("digits").rows
    shares = (len(labels) - _HELD_OUT, _HELD_OUT)
    rows = split_indices(len(labels), shares, seed=_SPLIT_SEED, stratify=labels)[PARTS.index(part)]
    chosen = np.asarray(labels[rows])
    return Digits(
        images=(np.asarray(images[rows, 0]) / _LARGEST).astype(np.float32),
        labels=chosen,
        of_class=tuple(tuple(np.flatnonzero(chosen == digit).tolist()) for digit in range(CLASSES)),
    )
