"""How far predicted numbers are off. Theory: docs/metrics.md."""

import math

from torch import Tensor

from ds_core.errors import ShapeError

# All is gathered in float64, so that millions of small errors do not vanish beside their sum.


def _pair(metric: object, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if output.shape != target.shape:
        raise ShapeError(
            f"{type(metric).__name__}: given output of shape {tuple(output.shape)} and target of shape "
            f"{tuple(target.shape)}, expected the same shape"
        )
    return output.detach().double(), target.detach().double()


class MeanAbsoluteError:
    """The mean of |output - target|, in the target's unit, as `sklearn.metrics.mean_absolute_error`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total = 0.0
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """Count a batch of numbers, both of one shape.

        Raises:
            ShapeError: the shapes differ.
        """
        output, target = _pair(self, output, target)
        self.total += float((output - target).abs().sum())
        self.count += target.numel()

    def compute(self) -> float:
        """The mean so far; NaN before anything has been counted."""
        return self.total / self.count if self.count else math.nan


class MeanSquaredError:
    """The mean of (output - target)^2, or its root, as `sklearn.metrics.mean_squared_error`.

    Args:
        root: take the square root, which is in the target's unit.
    """

    def __init__(self, root: bool = False) -> None:
        self.root = root
        self.reset()

    def reset(self) -> None:
        self.total = 0.0
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """Count a batch of numbers, both of one shape.

        Raises:
            ShapeError: the shapes differ.
        """
        output, target = _pair(self, output, target)
        self.total += float(((output - target) * (output - target)).sum())
        self.count += target.numel()

    def compute(self) -> float:
        """The mean so far, or its root; NaN before anything has been counted."""
        mean = self.total / self.count if self.count else math.nan
        return math.sqrt(mean) if self.root else mean


class R2Score:
    """1 - squared error / squared deviation of the targets from their mean, as `sklearn.metrics.r2_score`.

    All numbers count as one output. 1 is perfect, 0 what the targets' mean would reach as a constant prediction.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.error = 0.0
        self.mean = 0.0
        self.deviation = 0.0  # (6)
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        """Count a batch of numbers, both of one shape.

        Raises:
            ShapeError: the shapes differ.
        """
        output, target = _pair(self, output, target)
        count = target.numel()
        if count == 0:
            return
        self.error += float(((output - target) * (output - target)).sum())
        mean = float(target.mean())
        deviation = float(((target - mean) * (target - mean)).sum())
        total = self.count + count
        # two groups joined (Chan, Golub and LeVeque, 1979)                                                     (8)
        self.deviation += deviation + (mean - self.mean) ** 2 * self.count * count / total
        self.mean += (mean - self.mean) * count / total
        self.count = total

    def compute(self) -> float:
        """The score so far; NaN for fewer than two targets; where all are equal, 1 without error and else 0."""
        if self.count < 2:
            return math.nan
        if self.deviation == 0:
            return 1.0 if self.error == 0 else 0.0
        return 1 - self.error / self.deviation  # (7)
