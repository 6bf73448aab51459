"""What a schedule of learning rates is. Theory: docs/schedule.md."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import Tensor


def fill_rates(name: str, optimizer: Any, rates: Sequence[float]) -> None:
    """Set each group's learning rate; one that is a tensor is filled in place.

    Raises:
        ValueError: the optimizer has another number of groups than there are `rates`; `name` is who says so.
    """
    groups = optimizer.param_groups
    if len(groups) != len(rates):
        raise ValueError(
            f"{name}: made for {len(rates)} parameter groups, the optimizer has {len(groups)} now; "
            "make the schedule after the last add_param_group"
        )
    for group, rate in zip(groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Schedule:
    """Sets each group's learning rate: for step 0 when made, for the next step at each `step()`.

    A subclass writes `rate(step, base)`, from which everything follows. Where a group's "lr" is a tensor it is filled
    in place, so that a compiled step sees the change without being compiled again. Optimizers of torch.optim do as
    well. The twin of torch.optim.lr_scheduler.LRScheduler.

    Args:
        optimizer: whatever has `param_groups`; a group's "lr" (or its "initial_lr", where an earlier schedule has
            left one) is the base of its rates.
        last_epoch: the number of the step before the one to begin with.

    Raises:
        ValueError: `last_epoch` is less than -1.
        KeyError: `last_epoch` is not -1, and a group has no "initial_lr" to be the base.
    """

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        if last_epoch < -1:
            raise ValueError(f"{type(self).__name__}: given last_epoch={last_epoch}, expected at least -1")
        self.optimizer = optimizer
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{index}] when resuming {type(self).__name__} "
                    "with last_epoch >= 0: load the optimizer's state first"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch  # torch.optim.lr_scheduler's name for the number of the step
        self.go_to(last_epoch + 1)

    def rate(self, step: int, base: float) -> float:
        """The learning rate of step number `step`, from 0 on, for a group whose own is `base`."""
        raise NotImplementedError(f"{type(self).__name__} has no rate")

    def rates(self, step: int) -> list[float]:
        """The learning rate of each group at step number `step`."""
        return [self.rate(step, base) for base in self.base_lrs]

    def moved(self, step: int, rates: Sequence[float]) -> list[float]:
        """In a `ChainedScheduler`: `rates` of step `step` as the schedules before this one left them, changed by it.

        At step 0 `rates` are the groups' own. A schedule that does not look at `rates` has the last word.
        """
        return self.rates(step)

    def step(self) -> None:
        """To be called after each optimizer step."""
        self.go_to(self.last_epoch + 1)

    def go_to(self, step: int) -> None:
        """Set the learning rates of step number `step`, from which the next `step()` goes on."""
        fill_rates(type(self).__name__, self.optimizer, self.rates(step))
        self.enter(step)

    def enter(self, step: int) -> None:
        """Take note of the step, and set what else than learning rates depends on it."""
        self.last_epoch = step

    def get_last_lr(self) -> list[float]:
        """The learning rate now, of each group."""
        return self.rates(self.last_epoch)

    def trajectory(self, steps: int) -> list[list[float]]:
        """The learning rates of all groups at steps 0 to steps - 1; the schedule stays where it is."""
        return [self.rates(step) for step in range(steps)]

    def values(self, count: int) -> list[float]:
        """The first group's learning rates of steps 0 to count - 1."""
        return [rates[0] for rates in self.trajectory(count)]

    def state_dict(self) -> dict[str, Any]:
        """The number of the step and the base rates, as JSON holds them; arguments are not among it."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, and set the learning rates of that step.

        Raises:
            ValueError: the state is of another number of groups; nothing has been changed then.
        """
        self.check_state(state_dict)
        self.base_lrs = [float(rate) for rate in state_dict["base_lrs"]]
        self.go_to(int(state_dict["last_epoch"]))

    def check_state(self, state_dict: Mapping[str, Any]) -> None:
        """Raise what `load_state_dict` would, and change nothing."""
        given, expected = len(state_dict["base_lrs"]), len(self.optimizer.param_groups)
        if given != expected:
            raise ValueError(
                f"{type(self).__name__}: given a state of {given} parameter groups, the optimizer has {expected}"
            )
        int(state_dict["last_epoch"])


class FactorSchedule(Schedule):
    """A schedule whose rate is the group's own times a factor that is the same for all groups: it can be chained.

    A subclass writes `factor(step)`.
    """

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at step number `step`, from 0 on."""
        raise NotImplementedError(f"{type(self).__name__} has no factor")

    def rate(self, step: int, base: float) -> float:
        return base * self.factor(step)  # lr_s = lr f_s                                                 (1)

    def moved(self, step: int, rates: Sequence[float]) -> list[float]:
        before, now = (1.0 if step == 0 else self.factor(step - 1)), self.factor(step)
        if before == 0:
            if now != 0:
                raise ValueError(f"{self} goes from a factor of 0 to {now} at step {step}, which no chain can undo")
            return list(rates)
        return [rate * (now / before) for rate in rates]  # lr = lr f_s / f_(s-1), f_(-1) = 1            (2)


def check_count(schedule: object, name: str, value: int, least: int = 1) -> None:
    """Raise ValueError, naming the schedule, unless `value` is an integer (NumPy's too) of at least `least`."""
    if not (isinstance(value, Integral) and value >= least):
        raise ValueError(f"{type(schedule).__name__}: given {name}={value!r}, expected an integer of at least {least}")


def check_amount(schedule: object, name: str, value: float) -> None:
    """Raise ValueError, naming the schedule, unless `value` is a finite number of at least 0."""
    if not 0 <= value < float("inf"):
        raise ValueError(f"{type(schedule).__name__}: given {name}={value}, expected a finite number of at least 0")
