"""Learning rates that fall, or rise, by a factor at certain steps. Theory: docs/step_lr.md."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from ds_core.schedules.schedule import FactorSchedule, check_amount, check_count


class StepLR(FactorSchedule):
    """The learning rate times `gamma` every `step_size` steps.

    Twin of torch.optim.lr_scheduler.StepLR.

    Args:
        optimizer: whose learning rates are set.
        step_size: steps between two changes.
        gamma: what each change multiplies by.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: `step_size` is below 1, or `gamma` below 0.
    """

    def __init__(self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        check_count(self, "step_size", step_size)
        check_amount(self, "gamma", gamma)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        return float(self.gamma ** (step // self.step_size))  # f_s = gamma^floor(s / S)                 (1)


class MultiStepLR(FactorSchedule):
    """The learning rate times `gamma` at each of the `milestones`.

    Twin of torch.optim.lr_scheduler.MultiStepLR.

    Args:
        optimizer: whose learning rates are set.
        milestones: numbers of steps, in any order; one given twice counts twice.
        gamma: what each change multiplies by.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: a milestone is no step, or `gamma` is below 0.
    """

    def __init__(self, optimizer: Any, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones = sorted(milestones)
        for milestone in self.milestones:
            check_count(self, "milestone", milestone, 0)
        check_amount(self, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        return float(self.gamma ** bisect_right(self.milestones, step))  # f_s = gamma^|{m: m <= s}|     (2)


class ExponentialLR(FactorSchedule):
    """The learning rate times `gamma` at every step.

    Twin of torch.optim.lr_scheduler.ExponentialLR.

    Args:
        optimizer: whose learning rates are set.
        gamma: what each step multiplies by.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: `gamma` is below 0.
    """

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1) -> None:
        check_amount(self, "gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        return float(self.gamma**step)  # f_s = gamma^s                                                  (3)


class ConstantLR(FactorSchedule):
    """The learning rate times `factor` for the first `total_iters` steps, and then as it is.

    Twin of torch.optim.lr_scheduler.ConstantLR.

    Args:
        optimizer: whose learning rates are set.
        factor: from 0 to 1.
        total_iters: the number of the first step at the full rate.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: `factor` is not between 0 and 1, or `total_iters` is below 1.
    """

    def __init__(self, optimizer: Any, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(
                f"Constant multiplicative factor expected to be between 0 and 1, but ConstantLR got {factor}."
            )
        check_count(self, "total_iters", total_iters)
        self.start_factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        return self.start_factor if step < self.total_iters else 1.0  # f_s = f for s < N, else 1        (4)
