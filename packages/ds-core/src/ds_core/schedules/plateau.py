"""A learning rate that falls when a measured value no longer improves. Theory: docs/plateau.md."""

import copy
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, SupportsFloat

from ds_core.errors import did_you_mean
from ds_core.schedules.schedule import check_amount, check_count, fill_rates


class ReduceLROnPlateau:
    """The learning rate times `factor` when a value has not become better for more than `patience` evaluations.

    Twin of torch.optim.lr_scheduler.ReduceLROnPlateau. It is no `Schedule`: what it does depends on what it is told.
    In a `Trainer` it is a callback, and its state is in the checkpoint.

    Args:
        optimizer: whose learning rates are changed, from what they are at the time.
        mode: "min" where smaller values are better, "max" where larger ones are.
        factor: what the learning rate is multiplied by, below 1.
        patience: evaluations without improvement that are borne; the next one reduces the rate.
        threshold: by how much a value must be better than the best to count.
        threshold_mode: "rel" takes `threshold` as a part of the best value, "abs" as it is.
        cooldown: evaluations after a reduction that are not counted.
        min_lr: below this no rate is reduced; for all groups or a list of one for each.
        eps: a reduction by no more than this is left out.
        value: which value of `Trainer`'s `evaluate` to go by.

    Raises:
        ValueError: an option outside its range, or a list of another length than there are groups.
    """

    def __init__(
        self,
        optimizer: Any,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
        *,
        value: str = "loss",
    ) -> None:
        if not factor < 1:
            raise ValueError(f"Factor should be < 1.0, but ReduceLROnPlateau got {factor}.")
        for name, word, known in (("mode", mode, ("min", "max")), ("threshold mode", threshold_mode, ("rel", "abs"))):
            if word not in known:
                raise ValueError(f"{name} {word} is unknown!{did_you_mean(word, known)}")
        for name, amount in (("factor", factor), ("threshold", threshold), ("eps", eps)):
            check_amount(self, name, amount)
        check_count(self, "patience", patience, 0)
        check_count(self, "cooldown", cooldown, 0)
        groups = optimizer.param_groups
        if isinstance(min_lr, (list, tuple)) and len(min_lr) != len(groups):
            raise ValueError(f"expected {len(groups)} min_lrs, got {len(min_lr)}")
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.eps = eps
        self.value = value
        self.base_lrs = self.get_last_lr()
        self._reset()

    def _reset(self) -> None:
        self.best: float | None = None
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0  # evaluations so far

    def is_better(self, now: float, best: float) -> bool:
        """Whether `now` is an improvement on `best`."""
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            limit = best * (1 - sign * self.threshold)  # B (1 - tau), or B (1 + tau)                    (1)
        else:
            limit = best - sign * self.threshold  # B - tau, or B + tau                                  (2)
        return sign * now < sign * limit

    def step(self, metrics: SupportsFloat) -> None:
        """To be called after each evaluation, with what it measured."""
        now = float(metrics)
        self.last_epoch += 1
        worst = math.inf if self.mode == "min" else -math.inf
        if self.is_better(now, worst if self.best is None else self.best):
            self.best, self.num_bad_epochs = now, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0

    def _reduce(self) -> None:
        rates = self.get_last_lr()
        limits: list[Any] = list(self.min_lr) if isinstance(self.min_lr, (list, tuple)) else [self.min_lr] * len(rates)
        if len(limits) != len(rates):
            raise RuntimeError(
                f"ReduceLROnPlateau: given {len(limits)} min_lrs, the optimizer has {len(rates)} parameter groups now; "
                "make the schedule after the last add_param_group, or give one min_lr for all"
            )
        reduced = [max(rate * self.factor, limit) for rate, limit in zip(rates, limits, strict=True)]  # (3)
        kept = [now if old - now > self.eps else old for old, now in zip(rates, reduced, strict=True)]
        fill_rates("ReduceLROnPlateau", self.optimizer, kept)

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        """What a `Trainer` calls after each evaluation, where this is one of its callbacks."""
        if self.value not in metrics:
            raise ValueError(f"ReduceLROnPlateau: evaluate gave {', '.join(metrics)}, expected {self.value}")
        before = self.get_last_lr()
        self.step(metrics[self.value])
        if self.get_last_lr() != before:
            trainer.note(f"{self.value} has not improved: learning rate {before[0]:.4g} -> {self.get_last_lr()[0]:.4g}")

    def get_last_lr(self) -> list[float]:
        """The learning rate now, of each group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def trajectory(self, metrics: Sequence[float]) -> list[list[float]]:
        """The learning rates of all groups at the start, and after each of `metrics`; nothing is changed."""
        imagined = copy.copy(self)
        imagined.optimizer = SimpleNamespace(param_groups=[{"lr": base} for base in self.base_lrs])
        imagined._reset()
        rates = [imagined.get_last_lr()]
        for value in metrics:
            imagined.step(value)
            rates.append(imagined.get_last_lr())
        return rates

    def values(self, metrics: Sequence[float]) -> list[float]:
        """The first group's learning rates at the start, and after each of `metrics`."""
        return [rates[0] for rates in self.trajectory(metrics)]

    def state_dict(self) -> dict[str, Any]:
        """What it remembers and the learning rates, as JSON holds them; arguments are not among it."""
        return {
            "best": self.best,
            "num_bad_epochs": self.num_bad_epochs,
            "cooldown_counter": self.cooldown_counter,
            "last_epoch": self.last_epoch,
            "base_lrs": list(self.base_lrs),
            "lrs": self.get_last_lr(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there, with the learning rates of that time.

        Raises:
            ValueError: the state is of another number of groups; nothing has been changed then.
        """
        counts = [int(state_dict[name]) for name in ("num_bad_epochs", "cooldown_counter", "last_epoch")]
        best, base_lrs, rates = (state_dict[name] for name in ("best", "base_lrs", "lrs"))
        if len(rates) != len(self.optimizer.param_groups):
            raise ValueError(
                f"ReduceLROnPlateau: given a state of {len(rates)} parameter groups, "
                f"the optimizer has {len(self.optimizer.param_groups)}"
            )
        fill_rates("ReduceLROnPlateau", self.optimizer, rates)
        self.best = None if best is None else float(best)
        self.num_bad_epochs, self.cooldown_counter, self.last_epoch = counts
        self.base_lrs = [float(rate) for rate in base_lrs]
