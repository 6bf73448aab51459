"""Learning rates along a cosine, down and up again or restarted. Theory: docs/cosine_lr.md."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ds_core.schedules.schedule import Schedule, check_count


def annealed(base: float, eta_min: float, share: float) -> float:
    """Half a cosine from `base` at share 0 to `eta_min` at share 1."""
    return eta_min + (base - eta_min) * (1 + math.cos(math.pi * share)) / 2  # (1)


def _check_minimum(schedule: object, eta_min: float) -> None:
    if not isinstance(eta_min, (float, int)):
        raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
    if not 0 <= eta_min < math.inf:
        raise ValueError(f"{type(schedule).__name__}: given eta_min={eta_min}, expected a finite number of at least 0")


class CosineAnnealingLR(Schedule):
    """A cosine from the optimizer's learning rate to `eta_min` in `T_max` steps, back up in as many, and so on.

    Equation 5 of Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without
    restarts. Twin of torch.optim.lr_scheduler.CosineAnnealingLR.

    Args:
        optimizer: whose learning rates are set.
        T_max: steps from the top to the bottom.
        eta_min: the bottom, for all groups.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: `T_max` is below 1, or `eta_min` below 0.
    """

    def __init__(self, optimizer: Any, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:  # noqa: N803
        check_count(self, "T_max", T_max)
        _check_minimum(self, eta_min)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        return annealed(base, self.eta_min, step / self.T_max)  # (1) with t = s / T

    def moved(self, step: int, rates: Sequence[float]) -> list[float]:
        if step == 0:
            return list(rates)
        before = annealed(1, 0, (step - 1) / self.T_max)
        if (step - 1) % (2 * self.T_max) == self.T_max:  # at the bottom nothing is left that could be multiplied
            rise = annealed(1, 0, 1 - 1 / self.T_max)
            return [rate + (base - self.eta_min) * rise for rate, base in zip(rates, self.base_lrs, strict=True)]
        ratio = annealed(1, 0, step / self.T_max) / before
        return [self.eta_min + (rate - self.eta_min) * ratio for rate in rates]  # (2)


class CosineAnnealingWarmRestarts(Schedule):
    """A cosine from the optimizer's learning rate down to `eta_min`, again and again, each maybe longer than the last.

    Equation 5 of Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017.
    Twin of torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.

    Args:
        optimizer: whose learning rates are set.
        T_0: steps in the first cycle.
        T_mult: how many times longer than the last each cycle is.
        eta_min: what the cycles come down to, for all groups.
        last_epoch: see `Schedule`.

    Attributes:
        position: the number of the step, where `step(epoch)` has set it maybe with a fraction.

    Raises:
        ValueError: `T_0` or `T_mult` is no integer or below 1, `eta_min` no number or below 0.
    """

    def __init__(
        self,
        optimizer: Any,
        T_0: int,  # noqa: N803
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        _check_minimum(self, eta_min)
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.position: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def rate(self, step: float, base: float) -> float:
        if self.T_mult == 1:
            return annealed(base, self.eta_min, step % self.T_0 / self.T_0)
        since, length = step, self.T_0
        while since >= length:  # T_(i+1) = m T_i                                                        (3)
            since -= length
            length *= self.T_mult
        return annealed(base, self.eta_min, since / length)

    def rates(self, step: float) -> list[float]:
        return [self.rate(step, base) for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """To be called after each optimizer step, without an argument or with the position in epochs, as in 2.75.

        Raises:
            ValueError: `epoch` is negative.
        """
        if epoch is not None and epoch < 0:
            raise ValueError(f"Expected non-negative epoch, but got {epoch}")
        self.go_to(self.position + 1 if epoch is None else epoch)

    def go_to(self, step: float) -> None:
        super().go_to(step)  # type: ignore[arg-type]

    def enter(self, step: float) -> None:
        self.position, self.last_epoch = step, math.floor(step)

    def get_last_lr(self) -> list[float]:
        return self.rates(self.position)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "position": self.position}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.go_to(state_dict.get("position", self.last_epoch))
