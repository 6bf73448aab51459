"""Columns brought to a common scale. Theory: docs/scaling.md."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ds_core.errors import ShapeError, StateDictError

# N = rows, D = columns, of any number of dimensions

_EPS = torch.finfo(torch.float64).eps


class Scaler:
    """What both scalers share: `fit` on the training rows alone, then `transform` whatever is to be seen like them.

    Statistics are kept in float64, (*D); results have the dtype of their input, whole numbers become the default dtype.

    Attributes:
        offset, scale: what is taken off and divided by; None before `fit`.
    """

    def __init__(self) -> None:
        self.offset: Tensor | None = None
        self.scale: Tensor | None = None

    def fit(self, x: Tensor) -> Any:
        """Learn offset and scale of each column -> self. x (N, *D).

        Raises:
            ShapeError: x without rows.
            ValueError: a number that is infinite or NaN.
        """
        if x.dim() == 0 or len(x) == 0:
            raise ShapeError(f"{type(self).__name__}: given x of shape {tuple(x.shape)}, expected at least one row")
        x = x.double()
        if not torch.isfinite(x).all():
            raise ValueError(f"{type(self).__name__}: given infinite numbers or NaN, expected finite ones")
        self.offset, self.scale = self._statistics(x)
        return self

    def transform(self, x: Tensor) -> Tensor:
        """x (N, *D) -> (N, *D)."""
        offset, scale = self._fitted(x)
        return self._forward(x.double(), offset, scale).to(_floating(x))

    def inverse_transform(self, y: Tensor) -> Tensor:
        """What was transformed to y (N, *D) -> (N, *D); a constant column comes back as it was."""
        offset, scale = self._fitted(y)
        return self._backward(y.double(), offset, scale).to(_floating(y))

    def fit_transform(self, x: Tensor) -> Tensor:
        """x (N, *D) -> (N, *D)."""
        return self.fit(x).transform(x)  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Tensor]:
        """Offset and scale, empty before `fit`."""
        return {} if self.offset is None or self.scale is None else {"offset": self.offset, "scale": self.scale}

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Scale as the scaler did whose state this is.

        Raises:
            StateDictError: other names than "offset" and "scale", or their shapes differ.
        """
        if set(state_dict) != {"offset", "scale"} or state_dict["offset"].shape != state_dict["scale"].shape:
            given = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
            raise StateDictError(f"{type(self).__name__}: given {given}, expected offset and scale of one shape")
        self.offset, self.scale = (state_dict[name].detach().double().clone() for name in ("offset", "scale"))

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def _forward(self, x: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        raise NotImplementedError

    def _backward(self, y: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        raise NotImplementedError

    def _fitted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.offset is None or self.scale is None:
            raise ValueError(f"{type(self).__name__}: call fit before transform or inverse_transform")
        if x.dim() == 0 or x.shape[1:] != self.offset.shape:
            expected = ", ".join(map(str, ("N", *self.offset.shape)))
            raise ShapeError(f"{type(self).__name__}: given shape {tuple(x.shape)}, expected ({expected})")
        return self.offset.to(x.device), self.scale.to(x.device)


class Standardise(Scaler):
    """Each column to mean 0 and variance 1; scikit-learn's `StandardScaler`.

    A constant column, as far as rounding allows to tell, becomes 0: its scale is 1.
    """

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(0)  # mu = sum_n x_n / N                                                            (1)
        variance = (x - mean).square().mean(0)  # v = sum_n (x_n - mu)^2 / N                              (2)
        constant = variance <= (len(x) * mean * _EPS).square()  # v <= (N mu eps)^2: mere rounding        (4)
        return mean, torch.where(constant, 1.0, variance.sqrt())

    def _forward(self, x: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        return (x - offset) / scale  # y = (x - mu) / sqrt(v)                                             (3)

    def _backward(self, y: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        return y * scale + offset  # x = y sqrt(v) + mu, (3) solved for x


class MinMax(Scaler):
    """Each column to the range from `low` to `high`; scikit-learn's `MinMaxScaler`.

    A constant column becomes `low`. Rows that were not fitted may lie outside of the range.

    Raises:
        ValueError: `low` not below `high`.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        if not low < high:
            raise ValueError(f"MinMax: given low={low} and high={high}, expected low < high")
        super().__init__()
        self.low = low
        self.high = high

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        least = x.amin(0)
        width = x.amax(0) - least  # w = max_n x_n - min_n x_n                                            (5)
        return least, torch.where(width < 10 * _EPS, 1.0, width)

    def _forward(self, x: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        return (x - offset) / scale * (self.high - self.low) + self.low  # y = l + (h - l) (x - min) / w  (6)

    def _backward(self, y: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
        return (y - self.low) / (self.high - self.low) * scale + offset  # (6) solved for x


def _floating(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()
