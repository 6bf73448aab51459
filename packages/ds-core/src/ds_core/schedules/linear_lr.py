"""Learning rates along a straight line or a power of one. Theory: docs/linear_lr.md."""

from typing import Any

from ds_core.schedules.schedule import FactorSchedule, check_amount, check_count


class LinearLR(FactorSchedule):
    """The learning rate times a factor that goes from `start_factor` to `end_factor` in a straight line.

    As it stands by default a warm-up. Twin of torch.optim.lr_scheduler.LinearLR.

    Args:
        optimizer: whose learning rates are set.
        start_factor: the factor at step 0, above 0 and at most 1.
        end_factor: the factor from step `total_iters` on, from 0 to 1.
        total_iters: how many steps the way takes.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: a factor outside its range, or `total_iters` below 1.
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1, "
                f"but LinearLR got {start_factor}."
            )
        if not 0 <= end_factor <= 1:
            raise ValueError(
                f"Ending multiplicative factor expected to be between 0 and 1, but LinearLR got {end_factor}."
            )
        check_count(self, "total_iters", total_iters)
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        share = min(step, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * share  # f_s = a + (b - a) s / N  (1)


class PolynomialLR(FactorSchedule):
    """The learning rate times a power of what is left of `total_iters` steps; 0 ever after.

    Twin of torch.optim.lr_scheduler.PolynomialLR.

    Args:
        optimizer: whose learning rates are set.
        total_iters: the number of the first step at 0.
        power: 1 is a straight line; above 1 the rate falls fast first, below 1 late.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: `total_iters` is below 1, or `power` below 0.
    """

    def __init__(self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        check_count(self, "total_iters", total_iters)
        check_amount(self, "power", power)
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        left = 1.0 - min(step, self.total_iters) / self.total_iters
        return float(left**self.power)  # f_s = (1 - s / N)^p                                            (2)
