"""Schedules one after the other, and several at once. Theory: docs/sequential_lr.md."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ds_core.schedules.plateau import ReduceLROnPlateau
from ds_core.schedules.schedule import Schedule


class _Schedules(Schedule):
    """A schedule made of others, which it moves and whose states are part of its own."""

    schedulers: list[Schedule]

    def _take(self, schedulers: Sequence[Schedule], optimizer: Any) -> None:
        name = type(self).__name__
        for index, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"{name} at index {index} should have `optimizer` as its attribute.")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to be "
                    f"specified when calling `step`, but got one at index {index} in the given schedulers sequence."
                )
            if not isinstance(scheduler, Schedule):
                raise TypeError(f"{name}: given a {type(scheduler).__name__} at index {index}, expected a Schedule")
            if scheduler.optimizer is not optimizer:
                raise ValueError(
                    f"{name} expects all schedulers to belong to the same optimizer, but got scheduler "
                    f"{type(scheduler).__name__} at index {index} of another {type(scheduler.optimizer).__name__}."
                )
        self.schedulers = list(schedulers)
        self.optimizer = optimizer

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        return self.schedulers[0].base_lrs

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    def check_state(self, state_dict: Mapping[str, Any]) -> None:
        states = state_dict["schedulers"]
        if len(states) != len(self.schedulers):
            raise ValueError(
                f"{type(self).__name__}: given a state of {len(states)} schedulers, expected {len(self.schedulers)}"
            )
        for schedule, state in zip(self.schedulers, states, strict=True):
            schedule.check_state(state)
        int(state_dict["last_epoch"])


class SequentialLR(_Schedules):
    """One schedule after the other, each beginning at its own step 0.

    Twin of torch.optim.lr_scheduler.SequentialLR. A warm-up before any other schedule is
    `SequentialLR(optimizer, [LinearLR(optimizer, total_iters=100), other], [100])`.

    Args:
        optimizer: that of all the schedules.
        schedulers: the schedules, in order.
        milestones: the step at which each but the first begins, ascending.
        last_epoch: the number of the step before the one to begin with.

    Raises:
        ValueError: no schedules, or of other optimizers, or a number of milestones that does not fit; milestones that
            descend; a `ReduceLROnPlateau`, which needs to be told a value.
        TypeError: something that is no schedule.
    """

    def __init__(
        self, optimizer: Any, schedulers: Sequence[Schedule], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if len(schedulers) < 1:
            raise ValueError("SequentialLR expects at least one scheduler, but got no scheduler.")
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones to be "
                f"equal to {len(milestones)}"
            )
        if list(milestones) != sorted(milestones) or any(milestone < 0 for milestone in milestones):
            raise ValueError(f"SequentialLR: given milestones={list(milestones)}, expected ascending numbers from 0 on")
        if last_epoch < -1:
            raise ValueError(f"SequentialLR: given last_epoch={last_epoch}, expected at least -1")
        self.milestones = list(milestones)
        self.last_epoch = last_epoch
        self.go_to(last_epoch + 1)

    def _place(self, step: int) -> tuple[int, int]:
        """Which schedule's turn it is, and the number of its own step."""
        index = bisect_right(self.milestones, step)
        return index, step - (0 if index == 0 else self.milestones[index - 1])  # lr_s = lr^(i)_(s - m_i)   (1)

    def rates(self, step: int) -> list[float]:
        index, own = self._place(step)
        return self.schedulers[index].rates(own)

    def moved(self, step: int, rates: Sequence[float]) -> list[float]:
        index, own = self._place(step)
        schedule = self.schedulers[index]
        return schedule.rates(0) if own == 0 and index > 0 else schedule.moved(own, rates)

    def enter(self, step: int) -> None:
        super().enter(step)
        index, own = self._place(step)
        self.schedulers[index].enter(own)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, and set the learning rates of that step.

        Raises:
            ValueError: the state is of other numbers of groups or schedules; nothing has been changed then.
        """
        self.check_state(state_dict)
        step = int(state_dict["last_epoch"])
        reached, _ = self._place(step)
        # in the order of a run that was not broken: the last to set momentum is the last whose turn it was
        for index in sorted(range(len(self.schedulers)), key=lambda index: index <= reached):
            self.schedulers[index].load_state_dict(state_dict["schedulers"][index])
        self.go_to(step)


class ChainedScheduler(_Schedules):
    """Several schedules at once: each changes what those before it have left.

    Twin of torch.optim.lr_scheduler.ChainedScheduler.

    Args:
        schedulers: the schedules; factors are multiplied, and one that knows only its own rate has the last word.
        optimizer: that of all the schedules; None for the first one's.

    Raises:
        ValueError: no schedules, or of other optimizers, or not all at the same step; a `ReduceLROnPlateau`, which
            needs to be told a value.
        TypeError: something that is no schedule.
    """

    def __init__(self, schedulers: Sequence[Schedule], optimizer: Any = None) -> None:
        if len(schedulers) < 1:
            raise ValueError("ChainedScheduler expects at least one scheduler to be chained, but got no scheduler.")
        self._take(schedulers, getattr(schedulers[0], "optimizer", None) if optimizer is None else optimizer)
        steps = {schedule.last_epoch for schedule in schedulers}
        if len(steps) > 1:
            raise ValueError(f"ChainedScheduler: given schedulers at steps {sorted(steps)}, expected all at one step")
        self.last_epoch = steps.pop()
        self._forget()
        self.go_to(self.last_epoch)

    def _forget(self) -> None:
        self._latest = (-1, list(self.schedulers[0].base_lrs))

    def rates(self, step: int) -> list[float]:
        if step < self._latest[0]:
            self._forget()
        known, rates = self._latest
        for number in range(known + 1, step + 1):
            rates = self.moved(number, rates)
        self._latest = (step, rates)
        return list(rates)

    def moved(self, step: int, rates: Sequence[float]) -> list[float]:
        for schedule in self.schedulers:
            rates = schedule.moved(step, rates)
        return list(rates)

    def enter(self, step: int) -> None:
        super().enter(step)
        for schedule in self.schedulers:
            schedule.enter(step)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, and set the learning rates of that step.

        Raises:
            ValueError: the state is of other numbers of groups or schedules; nothing has been changed then.
        """
        self.check_state(state_dict)
        for schedule, state in zip(self.schedulers, state_dict["schedulers"], strict=True):
            schedule.load_state_dict(state)
        self._forget()
        self.go_to(int(state_dict["last_epoch"]))
