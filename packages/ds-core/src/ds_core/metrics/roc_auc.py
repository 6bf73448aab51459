"""The area under the receiver operating characteristic. Theory: docs/metrics.md."""

import math

import torch
from torch import Tensor

from ds_core.errors import ShapeError
from ds_core.metrics.accuracy import check_classes

# N = examples, C = classes


class ROCAUC:
    """How likely a random positive example scores higher than a random negative one, ties counting one half.

    As `sklearn.metrics.roc_auc_score`. It needs the order of all scores, so it keeps them all, on the CPU.

    Args:
        average: for scores of several classes, each against the rest: "macro", the mean over classes; "weighted" by
            how many targets a class has; None, one value for each class.

    Raises:
        ValueError: another `average`.
    """

    def __init__(self, average: str | None = "macro") -> None:
        if average not in ("macro", "weighted", None):
            raise ValueError(f'ROCAUC: given average={average!r}, expected "macro", "weighted" or None')
        self.average = average
        self.reset()

    def reset(self) -> None:
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Keep a batch: scores of class 1, (N,), and targets 0 or 1; or scores of each class, (N, C), and classes (N,).

        Raises:
            ShapeError: shapes do not fit, one another or those before.
            ValueError: a target is no class, or a score NaN.
        """
        fits = target.dim() == 1 and scores.dim() in (1, 2) and scores.shape[:1] == target.shape
        if not fits or any(scores.shape[1:] != before.shape[1:] for before in self.scores[:1]):
            raise ShapeError(
                f"ROCAUC: given scores of shape {tuple(scores.shape)} and target of shape {tuple(target.shape)}, "
                "expected (N,) or (N, C), the same in every batch, and (N,)"
            )
        check_classes("ROCAUC", target, 2 if scores.dim() == 1 else scores.shape[1])
        if bool(scores.isnan().any()):
            raise ValueError("ROCAUC: given a score that is NaN, which has no place in an order")
        self.scores.append(scores.detach().double().cpu())
        self.targets.append(target.detach().long().cpu())

    def compute(self) -> float | Tensor:
        """A number, or (C,) without `average`; NaN where a class has no example, or all: nothing can be compared."""
        if not self.scores:
            return math.nan
        scores, target = torch.cat(self.scores), torch.cat(self.targets)
        if scores.dim() == 1:
            return float(_area(scores, target == 1))
        areas = torch.stack([_area(scores[:, label].contiguous(), target == label) for label in range(scores.shape[1])])
        if self.average is None:
            return areas
        counts = torch.bincount(target, minlength=scores.shape[1]).double()
        shares = counts if self.average == "weighted" else torch.ones_like(counts)
        return float((areas * shares).sum() / shares.sum())


def _area(scores: Tensor, positive: Tensor) -> Tensor:
    """(N,) and (N,) -> the area, by the ranks of the positive ones (Mann and Whitney, 1947)."""
    positives = positive.sum().double()
    ordered = scores.sort().values
    # of equal scores each has the mean of their ranks, which lie between these two
    below, up_to = torch.searchsorted(ordered, scores), torch.searchsorted(ordered, scores, right=True)
    ranks = (below + up_to + 1).double() / 2
    rank_sum = torch.where(positive, ranks, 0.0).sum()
    # AUC = (sum of ranks - P (P + 1) / 2) / (P (N - P))                                                      (5)
    return (rank_sum - positives * (positives + 1) / 2) / (positives * (len(scores) - positives))
