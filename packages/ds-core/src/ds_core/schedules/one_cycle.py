"""One cycle: learning rate up and down, momentum down and up. Theory: docs/one_cycle.md."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ds_core.errors import did_you_mean
from ds_core.schedules.schedule import Schedule, check_count


class Phase(NamedTuple):
    """A stretch of the cycle: its last step, and the levels of learning rate and momentum at both ends."""

    end: float
    rate: tuple[str, str]
    momentum: tuple[str, str]


class OneCycleLR(Schedule):
    """The learning rate rises to `max_lr` and falls far below where it began, while momentum does the opposite.

    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018.
    Twin of torch.optim.lr_scheduler.OneCycleLR.

    Args:
        optimizer: whose learning rates, and "momentum" or first of "betas", are set; the rates it had are not used.
        max_lr: the top of the learning rate, for all groups or a list of one for each.
        total_steps: steps of the cycle; or give `epochs` and `steps_per_epoch`, whose product it then is.
        pct_start: the part of the cycle, from 0 to 1, in which the rate rises.
        anneal_strategy: "cos" or "linear", the form of each way.
        cycle_momentum: whether momentum, or Adam's first beta, is set as well.
        base_momentum: momentum where the rate is highest, for all groups or a list of one for each.
        max_momentum: momentum at the beginning and the end, likewise.
        div_factor: the rate begins at max_lr / div_factor,
        final_div_factor: and ends at that / final_div_factor.
        three_phase: the rate falls back to its beginning in as many steps as it rose, and then to its end.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: no number of steps, one below 1, an option outside its range, lists of other lengths than there are
            groups, or an optimizer without momentum that is to be cycled; from `step`, at the end of the cycle.
    """

    def __init__(
        self,
        optimizer: Any,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.total_steps = _number_of_steps(self, total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            near = did_you_mean(anneal_strategy, ["cos", "linear"])
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy!r}{near}")
        for name, factor in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            if not 0 < factor < math.inf:
                raise ValueError(f"OneCycleLR: given {name}={factor}, expected a finite number above 0")
        groups = optimizer.param_groups
        max_lrs = _one_for_each("max_lr", max_lr, len(groups))
        self.momenta: list[dict[str, float]] = []
        if cycle_momentum:
            if not all("momentum" in group or "betas" in group for group in groups):
                raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
            tops = _one_for_each("max_momentum", max_momentum, len(groups))
            bottoms = _one_for_each("base_momentum", base_momentum, len(groups))
            self.momenta = [{"top": top, "bottom": bottom} for top, bottom in zip(tops, bottoms, strict=True)]
        self.cycle_momentum = cycle_momentum
        self.anneal_strategy = anneal_strategy
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.phases = _phases(self.total_steps, pct_start, three_phase)
        if last_epoch == -1:
            for group, top in zip(groups, max_lrs, strict=True):
                group["initial_lr"] = top / div_factor  # lr_start = lr_max / D                          (1)
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        # lr_end = lr_start / E                                                                          (2)
        levels = {"start": base, "top": base * self.div_factor, "end": base / self.final_div_factor}
        phase, share = self._place(step)
        return self._annealed(levels[phase.rate[0]], levels[phase.rate[1]], share)

    def momentum(self, step: int) -> list[float]:
        """The momentum of each group at step number `step`; nothing without `cycle_momentum`."""
        phase, share = self._place(step)
        return [self._annealed(own[phase.momentum[0]], own[phase.momentum[1]], share) for own in self.momenta]

    def enter(self, step: int) -> None:
        super().enter(step)
        groups = self.optimizer.param_groups if self.cycle_momentum else []
        for group, momentum in zip(groups, self.momentum(step), strict=True):
            if "betas" not in group:
                group["momentum"] = momentum
            elif isinstance(group["betas"][0], Tensor):
                group["betas"][0].fill_(momentum)
            else:
                group["betas"] = (momentum, *group["betas"][1:])

    def check_state(self, state_dict: Mapping[str, Any]) -> None:
        super().check_state(state_dict)
        self._check_step(int(state_dict["last_epoch"]))

    def _check_step(self, step: int) -> None:
        if step > self.total_steps:
            raise ValueError(f"Tried to step {step} times. The specified number of total steps is {self.total_steps}")

    def _place(self, step: int) -> tuple[Phase, float]:
        """The phase that `step` is in, and how much of it lies behind."""
        self._check_step(step)
        begin = 0.0
        for phase in self.phases:
            if step <= phase.end or phase is self.phases[-1]:
                break
            begin = phase.end
        length = phase.end - begin
        return phase, 1.0 if length == 0 else (step - begin) / length  # t = (s - s_begin) / (s_end - s_begin)  (3)

    def _annealed(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share  # a + (b - a) t                                        (4)
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2  # b + (a - b) (1 + cos(pi t)) / 2  (5)


def _phases(steps: int, part: float, three: bool) -> list[Phase]:
    up = Phase(part * steps - 1, ("start", "top"), ("top", "bottom"))
    if not three:
        return [up, Phase(steps - 1, ("top", "end"), ("bottom", "top"))]
    down = Phase(2 * part * steps - 2, ("top", "start"), ("bottom", "top"))
    return [up, down, Phase(steps - 1, ("start", "end"), ("top", "top"))]


def _number_of_steps(schedule: object, total: int | None, epochs: int | None, each: int | None) -> int:
    if total is not None:
        check_count(schedule, "total_steps", total)
        return total
    if epochs is None or each is None:
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    check_count(schedule, "epochs", epochs)
    check_count(schedule, "steps_per_epoch", each)
    return epochs * each


def _one_for_each(name: str, given: float | Sequence[float], groups: int) -> list[float]:
    if not isinstance(given, (list, tuple)):
        return [float(given)] * groups  # type: ignore[arg-type]
    if len(given) != groups:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. "
            f"{name} has {len(given)} values, param_groups has {groups}."
        )
    return [float(value) for value in given]
