"""One optimizer step: gradients, clipping, optimizer, schedule; eager or as one compiled graph; never beyond a NaN."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from ds_core.engine.compile_step import compile_step
from ds_core.engine.nested import all_finite
from ds_core.optimizers.clipping import clip_grad_norm_
from ds_core.training.batches import Batches
from ds_core.training.checkpoint import load_checkpoint
from ds_core.training.gradients import Pair, add_gradients
from ds_core.training.nonfinite import first_nonfinite
from ds_core.training.random_state import restore_torch_random_state, torch_random_state


class StepError(Exception):
    """The step that was tried is not finite; the message says which value. `Stepper.explain` says where."""


class Stepper:
    """Takes the steps of a `Trainer`, whose arguments these are."""

    def __init__(
        self,
        model: Any,
        criterion: Any,
        optimizer: Any,
        schedule: Any = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        compile: bool = False,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.compile = compile
        self._compiled: Any = None
        self._before: list[Tensor] = []

    def prepare(self) -> None:
        """To be called before the first step, after any checkpoint has been loaded."""
        self.optimizer.zero_grad()
        if self.compile and self._compiled is None:
            self._compiled = compile_step(self.model, self.criterion, self.optimizer, clip_norm=self.clip_norm)

    def forget(self) -> None:
        """To be called when a checkpoint has been loaded: what was compiled knew other tensors."""
        self._compiled = None

    def take(self, batches: Batches, index: int) -> dict[str, float]:
        """Take step `index`: loss, learning rate used, and, where it is clipped, the gradient norm before.

        Raises:
            StepError: the loss or the norm is infinite or NaN. The eager step has not touched the weights then,
                the compiled one has.
        """
        values = {}
        groups = getattr(self.optimizer, "param_groups", None)
        if groups:
            values["learning_rate"] = float(groups[0]["lr"])
        micro = self._micro_batches(batches, index)
        self._before = torch_random_state()
        loss, norm = self._gradients(micro) if self._compiled is None else self._compiled(micro)
        values["loss"] = float(loss)
        if norm is not None:
            values["gradient_norm"] = float(norm)
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values.get(name, 0.0)):
                raise StepError(f"the {name.replace('_', ' ')} is {values[name]}")
        if self._compiled is None:
            self._update()
        if self.schedule is not None:
            self.schedule.step()
        return values

    def explain(self, batches: Batches, index: int, checkpoint: Path | None) -> str:
        """Where step `index`, for which `take` raised `StepError`, first is not finite: it is repeated eagerly.

        A compiled step has spoiled the weights, so the steps since the last checkpoint are repeated too.
        """
        self.optimizer.zero_grad()
        if self._compiled is None or all_finite(self.model.parameters()) or checkpoint is None:
            restore_torch_random_state(self._before)
            return first_nonfinite(self.model, self.criterion, self._micro_batches(batches, index))
        first = load_checkpoint(
            checkpoint, model=self.model, optimizer=self.optimizer, schedule=self.schedule, criterion=self.criterion
        ).step
        self._compiled = None
        for step in range(first, index + 1):
            try:
                self.take(batches, step)
            except StepError:
                return self.explain(batches, step, None)
        return f"repeated eagerly from step {first}, every step is finite"

    def _micro_batches(self, batches: Batches, index: int) -> list[Pair]:
        return [batches.batch(index * self.accumulate + number) for number in range(self.accumulate)]

    def _gradients(self, micro: list[Pair]) -> tuple[Tensor, Tensor | None]:
        loss = add_gradients(self.model, self.criterion, micro)
        return loss, None if self.clip_norm is None else clip_grad_norm_(self.model.parameters(), self.clip_norm)

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
