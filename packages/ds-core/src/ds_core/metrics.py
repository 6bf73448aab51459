"""Numbers that say how well a model does, gathered batch by batch."""

import math

from torch import Tensor

from ds_core.errors import ShapeError


class Mean:
    """The mean of values, each counted `weight` times: a batch's mean loss with its number of targets."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total = 0.0
        self.weight = 0.0

    def update(self, value: Tensor | float, weight: float = 1.0) -> None:
        self.total += float(value) * weight
        self.weight += weight

    def compute(self) -> float:
        """The mean so far; NaN before anything has been counted."""
        return self.total / self.weight if self.weight else math.nan


class Perplexity(Mean):
    """exp of the mean cross-entropy per token (in nats): the number of equally likely choices it amounts to."""

    def compute(self) -> float:
        return perplexity(super().compute())


class Accuracy:
    """The share of targets whose highest logit is their own class; targets equal to `ignore_index` do not count."""

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        self.correct = 0
        self.count = 0

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits (..., C), target (...) of class indices.

        Raises:
            ShapeError: the leading dimensions differ.
        """
        if logits.shape[:-1] != target.shape:
            raise ShapeError(
                f"Accuracy: given logits of shape {tuple(logits.shape)} and target of shape {tuple(target.shape)}, "
                "expected (..., C) and (...)"
            )
        counted = target != self.ignore_index
        self.correct += int(((logits.argmax(-1) == target) & counted).sum())
        self.count += int(counted.sum())

    def compute(self) -> float:
        """The accuracy so far; NaN before anything has been counted."""
        return self.correct / self.count if self.count else math.nan


def perplexity(loss: float) -> float:
    """exp(loss), infinity where that is too large for a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
