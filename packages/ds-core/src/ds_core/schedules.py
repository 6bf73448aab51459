"""How the learning rate changes from step to step. Theory: docs/schedules.md."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Schedule:
    """Sets each group's learning rate: for step 0 when made, for the next step at each `step()`.

    A subclass writes `rate(step, base)`. Where a group's "lr" is a tensor it is filled in place, so that a
    compiled step sees the change without being compiled again. Optimizers of torch.optim do as well.

    Args:
        optimizer: whatever has `param_groups`; a group's "lr" (or its "initial_lr", where an earlier schedule has
            left one) is the base of its rates.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", float(group["lr"]))
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0  # torch.optim.lr_scheduler's name for the number of the step
        self._set()

    def rate(self, step: int, base: float) -> float:
        """The learning rate of step number `step`, from 0 on, for a group whose own is `base`."""
        raise NotImplementedError(f"{type(self).__name__} has no rate")

    def step(self) -> None:
        """To be called after each optimizer step."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The learning rate now, of each group."""
        return [self.rate(self.last_epoch, base) for base in self.base_lrs]

    def values(self, count: int) -> list[float]:
        """The first group's learning rates of steps 0 to count - 1, to be plotted."""
        return [self.rate(step, self.base_lrs[0]) for step in range(count)]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, and set the learning rates of that step.

        Raises:
            ValueError: the state is of another number of groups.
        """
        base_lrs = [float(rate) for rate in state_dict["base_lrs"]]
        if len(base_lrs) != len(self.optimizer.param_groups):
            raise ValueError(
                f"{type(self).__name__}: given a state of {len(base_lrs)} parameter groups, "
                f"the optimizer has {len(self.optimizer.param_groups)}"
            )
        self.base_lrs = base_lrs
        self.last_epoch = int(state_dict["last_epoch"])
        self._set()

    def _set(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ValueError(
                f"{type(self).__name__}: made for {len(self.base_lrs)} parameter groups, the optimizer has "
                f"{len(groups)} now; make the schedule after the last add_param_group"
            )
        for group, rate in zip(groups, self.get_last_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class WarmupCosineLR(Schedule):
    """Linear warm-up, then half a cosine from the optimizer's learning rate down to `min_lr`, which stays.

    The warm-up is that of nanoGPT, the cosine equation 5 of Loshchilov and Hutter, "SGDR", 2017, without restarts.

    Args:
        optimizer: whose learning rates are set; each group's own is its lr at the end of the warm-up.
        warmup_steps: how many steps stay below the full rate.
        total_steps: the number of the first step at `min_lr`, warm-up included.
        min_lr: where the cosine ends, for all groups.

    Raises:
        ValueError: a negative number, or more steps of warm-up than in all.
    """

    def __init__(self, optimizer: Any, warmup_steps: int, total_steps: int, min_lr: float = 0.0) -> None:
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                f"WarmupCosineLR: given warmup_steps={warmup_steps} and total_steps={total_steps}, "
                "expected 0 <= warmup_steps <= total_steps"
            )
        if not 0 <= min_lr < math.inf:
            raise ValueError(f"WarmupCosineLR: given min_lr={min_lr}, expected a finite number of at least 0")
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr = min_lr
        super().__init__(optimizer)

    def rate(self, step: int, base: float) -> float:
        if step < self.warmup_steps:
            return base * (step + 1) / (self.warmup_steps + 1)  # lr_s = lr (s + 1) / (W + 1)           (1)
        if step >= self.total_steps:
            return self.min_lr
        share = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        # lr_s = lr_min + (lr - lr_min) (1 + cos(pi (s - W) / (S - W))) / 2                             (2)
        return self.min_lr + (base - self.min_lr) * (1 + math.cos(math.pi * share)) / 2
