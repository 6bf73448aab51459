"""The share of targets that are among the k highest logits. Theory: docs/metrics.md."""

import math

import torch
from torch import Tensor

from ds_core.errors import ShapeError


class Accuracy:
    """The share of targets whose own logit is one of the `top_k` highest.

    Of equal logits that of the first class counts as the highest, and NaN is higher than all numbers, as in argmax; a
    target whose own logit is NaN is wrong.
    `sklearn.metrics.top_k_accuracy_score` takes the last of equal ones first, and is otherwise the same.

    Args:
        ignore_index: targets of this class do not count.
        top_k: how many guesses a prediction has.

    Raises:
        ValueError: `top_k` is less than 1.
    """

    def __init__(self, ignore_index: int = -100, top_k: int = 1) -> None:
        if top_k < 1:
            raise ValueError(f"Accuracy: given top_k={top_k}, expected at least 1")
        self.ignore_index = ignore_index
        self.top_k = top_k
        self.reset()

    def reset(self) -> None:
        self.correct = 0
        self.count = 0

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits (..., C), target (...) of class indices.

        Raises:
            ShapeError: the leading dimensions differ, or C is smaller than `top_k`.
            ValueError: a target is no class of 0 ... C - 1, and not `ignore_index`.
        """
        if logits.dim() == 0 or logits.shape[:-1] != target.shape or logits.shape[-1] < self.top_k:
            raise ShapeError(
                f"Accuracy: given logits of shape {tuple(logits.shape)} and target of shape {tuple(target.shape)}, "
                f"expected (..., C) with C >= {self.top_k}, and (...)"
            )
        counted = target != self.ignore_index
        logits, target = logits[counted], target[counted]  # (N, C), (N,)
        check_classes("Accuracy", target, logits.shape[-1])
        target = target.long()
        own = logits.gather(-1, target.unsqueeze(-1))  # (N, 1)
        before = torch.arange(logits.shape[-1], device=target.device) < target.unsqueeze(-1)
        # of the other classes, those that are guessed before this one (4)
        ahead = (~(logits <= own) | ((logits == own) & before)).sum(-1)  # of NaN "not below" is true
        self.correct += int((ahead < self.top_k).sum())
        self.count += int(counted.sum())

    def compute(self) -> float:
        """The accuracy so far; NaN before anything has been counted."""
        return self.correct / self.count if self.count else math.nan


def check_classes(metric: str, classes: Tensor, num_classes: int, what: str = "target") -> None:
    """Raise ValueError, naming `metric`, where one of `classes` is none of 0 ... num_classes - 1."""
    wrong = classes[(classes < 0) | (classes >= num_classes) | (classes != classes.long())]
    if wrong.numel() > 0:
        raise ValueError(f"{metric}: given the {what} {wrong[0].item()}, expected classes of 0 ... {num_classes - 1}")
