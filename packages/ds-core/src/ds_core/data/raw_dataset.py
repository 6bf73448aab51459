"""What the reader of a data set hands to `load`: the rows as they were published."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Source:
    """A data set before it is split and scaled.

    Attributes:
        rows: inputs (N, ...), target (N,).
        test: the same of the test rows that it was published with, or None.
        task: "classification" (targets int64) or "regression".
        largest: of images, the number that stands for white; None: the inputs are no images.
    """

    rows: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor] | None
    task: Literal["classification", "regression"]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    description: str
    largest: int | None = None
