"""Linear warm-up, then half a cosine. Theory: docs/warmup_cosine.md."""

import math
from typing import Any

from ds_core.schedules.schedule import Schedule, check_amount


class WarmupCosineLR(Schedule):
    """Linear warm-up, then half a cosine from the optimizer's learning rate down to `min_lr`, which stays.

    The warm-up is that of nanoGPT, the cosine equation 5 of Loshchilov and Hutter, "SGDR", 2017, without restarts.

    Args:
        optimizer: whose learning rates are set; each group's own is its lr at the end of the warm-up.
        warmup_steps: how many steps stay below the full rate.
        total_steps: the number of the first step at `min_lr`, warm-up included.
        min_lr: where the cosine ends for the group of the highest rate; every other ends at its share of it.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: a negative number, or more steps of warm-up than in all.
    """

    def __init__(
        self, optimizer: Any, warmup_steps: int, total_steps: int, min_lr: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                f"WarmupCosineLR: given warmup_steps={warmup_steps} and total_steps={total_steps}, "
                "expected 0 <= warmup_steps <= total_steps"
            )
        check_amount(self, "min_lr", min_lr)
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.min_lr = min_lr
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        if step < self.warmup_steps:
            return base * (step + 1) / (self.warmup_steps + 1)  # lr_s = lr (s + 1) / (W + 1)           (1)
        highest = max(self.base_lrs)
        min_lr = self.min_lr * (base / highest) if highest > 0 else self.min_lr
        if step >= self.total_steps:
            return min_lr
        share = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        # lr_s = lr_min + (lr - lr_min) (1 + cos(pi (s - W) / (S - W))) / 2                             (2)
        return min_lr + (base - min_lr) * (1 + math.cos(math.pi * share)) / 2
