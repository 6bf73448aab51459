"""Precision, recall and their weighted harmonic mean F. Theory: docs/metrics.md."""

import math

import torch
from torch import Tensor

from ds_core.metrics.confusion_matrix import ClassCounts

AVERAGES = ("micro", "macro", "weighted", None)


class FBeta(ClassCounts):
    """F_beta of each class, or its average: recall counts beta times as much as precision (van Rijsbergen, 1979).

    As `sklearn.metrics.fbeta_score`, gathered over batches.

    Args:
        num_classes: C.
        beta: how much more recall counts.
        average: "macro": the mean over the classes that occur, as target or prediction; "weighted": weighted by how
            many targets a class has; "micro": all classes' counts together; None: one value for each class.
        zero_division: what a class has for which nothing could be counted, 0, 1 or NaN; NaN is left out of averages.
        ignore_index: targets of this class do not count.

    Raises:
        ValueError: another `average` or `zero_division`, or `beta` negative or NaN.
    """

    def __init__(
        self,
        num_classes: int,
        beta: float = 1.0,
        average: str | None = "macro",
        zero_division: float = 0.0,
        ignore_index: int = -100,
    ) -> None:
        name = type(self).__name__
        if average not in AVERAGES:
            raise ValueError(f'{name}: given average={average!r}, expected "micro", "macro", "weighted" or None')
        if zero_division not in (0, 1) and zero_division == zero_division:
            raise ValueError(f"{name}: given zero_division={zero_division!r}, expected 0, 1 or NaN")
        if not beta >= 0:
            raise ValueError(f"{name}: given beta={beta}, expected a number of at least 0")
        super().__init__(num_classes, ignore_index)
        self.beta = beta
        self.average = average
        self.zero_division = float(zero_division)

    def compute(self) -> float | Tensor:
        """A number, or (C,) in float64 without `average`."""
        true = self.counts.diagonal().double()
        targets, predictions = self.counts.sum(1).double(), self.counts.sum(0).double()
        if self.average == "micro":
            return float(self._scores(true.sum(0, True), targets.sum(0, True), predictions.sum(0, True)))
        scores = self._scores(true, targets, predictions)
        if self.average is None:
            return scores
        counted = (targets + predictions > 0) & ~scores.isnan()
        if not bool(counted.any()):
            return self.zero_division
        shares = targets * counted if self.average == "weighted" else counted.double()
        if float(shares.sum()) == 0:  # only classes without targets have a value
            shares = counted.double()
        return float((scores.masked_fill(~counted, 0) * shares).sum() / shares.sum())

    def _scores(self, true: Tensor, targets: Tensor, predictions: Tensor) -> Tensor:
        """Each class's score from how often it is found, is the target, and is predicted."""
        if math.isinf(self.beta):
            return self._ratio(true, targets)
        square = self.beta**2
        return self._ratio((1 + square) * true, square * targets + predictions)  # (3)

    def _ratio(self, part: Tensor, whole: Tensor) -> Tensor:
        return torch.where(whole > 0, part / whole, self.zero_division)


class F1(FBeta):
    """F_1, the harmonic mean of precision and recall, as `sklearn.metrics.f1_score`; arguments as `FBeta`."""

    def __init__(
        self, num_classes: int, average: str | None = "macro", zero_division: float = 0.0, ignore_index: int = -100
    ) -> None:
        super().__init__(num_classes, 1.0, average, zero_division, ignore_index)


class Precision(F1):
    """Of those taken for a class, the share that is of it; as `sklearn.metrics.precision_score`; arguments as `F1`."""

    def _scores(self, true: Tensor, targets: Tensor, predictions: Tensor) -> Tensor:
        return self._ratio(true, predictions)  # (1)


class Recall(F1):
    """Of those of a class, the share that is taken for it; as `sklearn.metrics.recall_score`; arguments as `F1`."""

    def _scores(self, true: Tensor, targets: Tensor, predictions: Tensor) -> Tensor:
        return self._ratio(true, targets)  # (2)
