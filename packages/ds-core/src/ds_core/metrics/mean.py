"""The mean of values, and the perplexity of a mean cross-entropy. Theory: docs/metrics.md."""

import math

from torch import Tensor


class Mean:
    """The mean of values, each counted `weight` times: a batch's mean loss with its number of targets."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total = 0.0
        self.weight = 0.0

    def update(self, value: Tensor | float, weight: float = 1.0) -> None:
        self.total += float(value.detach() if isinstance(value, Tensor) else value) * weight
        self.weight += weight

    def compute(self) -> float:
        """The mean so far; NaN before anything has been counted."""
        return self.total / self.weight if self.weight else math.nan


class Perplexity(Mean):
    """exp of the mean cross-entropy per token (in nats): the number of equally likely choices it amounts to."""

    def compute(self) -> float:
        return perplexity(super().compute())


def perplexity(loss: float) -> float:
    """exp(loss), infinity where that is too large for a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
