"""One optimizer step: gradients, clipping, optimizer, schedule; eager or compiled; never beyond a NaN."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ds_core.data.batches import Batches
from ds_core.distributed.data_parallel import DataParallel
from ds_core.engine.random_state import restore_torch_random_state, torch_random_state
from ds_core.losses.denominator import rows_of
from ds_core.training.checkpoint import load_checkpoint
from ds_core.training.compile_step import CompiledParts, StepParts, compile_parts, compile_step
from ds_core.training.gradients import Pair, step_denominator
from ds_core.training.nonfinite import first_nonfinite
from ds_core.training.state_json import all_finite

# how `first_nonfinite` begins where it finds nothing
NOTHING_FOUND = "repeated eagerly, every output and every gradient is finite"


class StepError(Exception):
    """The step that was tried is not finite; the message says which value. `Stepper.explain` says where."""


class Stepper:
    """Takes the steps of a `Trainer`, whose arguments these are.

    Args:
        on_gradients: called when every `.grad` is complete, before clipping; not where the step is one compiled graph.
    """

    def __init__(
        self,
        model: Any,
        criterion: Any,
        optimizer: Any,
        schedule: Any = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        compile: bool = False,
        parallel: DataParallel | None = None,
        on_gradients: Callable[[], None] = lambda: None,
    ) -> None:
        _check_that_it_trains(model, criterion, optimizer)
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.compile = compile
        self.parallel = DataParallel() if parallel is None else parallel
        self.on_gradients = on_gradients
        self._alone = self.parallel.processes.world_size == 1
        self._compiled: Any = None  # the whole step
        self._parts = StepParts(model, criterion, optimizer, clip_norm)
        self._before: list[Tensor] = []

    def prepare(self) -> None:
        """To be called before the first step, after any checkpoint has been loaded."""
        self.optimizer.zero_grad()
        if not self.compile or self._compiled is not None or isinstance(self._parts, CompiledParts):
            return
        if self._alone:
            self._compiled = compile_step(self.model, self.criterion, self.optimizer, clip_norm=self.clip_norm)
        else:
            self._parts = compile_parts(self.model, self.criterion, self.optimizer, clip_norm=self.clip_norm)

    def forget(self) -> None:
        """To be called when a checkpoint has been loaded: the compiled graph refers to the old tensors."""
        self._compiled = None
        self._parts = StepParts(self.model, self.criterion, self.optimizer, self.clip_norm)

    def take(self, batches: Batches, index: int) -> dict[str, float]:
        """Take step `index`: loss, learning rate used, and, where it is clipped, the gradient norm before.

        Raises:
            StepError: the loss or the norm is infinite or NaN, on all processes. The weights have not been touched
                then, unless by a step that is one compiled graph.
        """
        values = {}
        groups = getattr(self.optimizer, "param_groups", None)
        if groups:
            values["learning_rate"] = float(groups[0]["lr"])
        micro = self._micro_batches(batches, index)
        self._before = torch_random_state()
        if self._compiled is None:
            loss = self._gradients(micro)
            self.on_gradients()
            norm = self._parts.clip()
        else:
            loss, norm = self._compiled(micro)
        values["loss"] = float(loss)
        if norm is not None:
            values["gradient_norm"] = float(norm)
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values.get(name, 0.0)):
                raise StepError(f"the {name.replace('_', ' ')} is {values[name]}")
        if self._compiled is None:
            self._parts.update()
        if self.schedule is not None:
            self.schedule.step()
        return values

    def explain(self, batches: Batches, index: int, checkpoint: Path | None) -> str:
        """Where step `index`, for which `take` raised `StepError`, first is not finite: it is repeated eagerly.

        A compiled step has spoiled the weights, so the steps since the last checkpoint are repeated too. Several
        processes each repeat their share; the first process that finds something reports it.
        """
        self.optimizer.zero_grad()
        if self._compiled is None or all_finite(self.model.parameters()) or checkpoint is None:
            restore_torch_random_state(self._before)
            own, denominator = self._own(self._micro_batches(batches, index))
            found = first_nonfinite(self.model, self.criterion, own, denominator) if own else NOTHING_FOUND
            return self.parallel.first_that_found(found, NOTHING_FOUND)
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

    def _numbers(self, index: int) -> range:
        return range(index * self.accumulate, (index + 1) * self.accumulate)

    def _micro_batches(self, batches: Batches, index: int) -> list[Pair]:
        if not hasattr(batches, "batch"):
            raise TypeError(
                f"Trainer.fit: given a {type(batches).__name__}, expected batches that any step can ask for by number, "
                "batch(index) -> (inputs, target), such as ds_core.data.Loader(TensorDataset(x, y), 32)"
            )
        return [batches.batch(number) for number in self._numbers(index)]

    def _own(self, micro: list[Pair]) -> tuple[list[Pair], Any]:
        """The micro-batches that this process has rows of, and what the loss over those of all is divided by."""
        if self._alone:
            return micro, None
        denominator = self.parallel.total(step_denominator(self.criterion, micro))
        # rows are dealt out from rank 0 on: where it has none, nobody has, and the step is that of one empty batch
        return [pair for pair in micro if self.parallel.processes.first or rows_of(pair[0]) != 0], denominator

    def _gradients(self, micro: list[Pair]) -> Tensor | float:
        """Fill every `.grad`; returns the loss, over all processes."""
        own, denominator = self._own(micro)
        if self._alone:
            return self._parts.gradients(own)
        # a compiled graph is reduced after it; of eager micro-batches the last one's backward pass overlaps with it
        last = 0 if isinstance(self._parts, CompiledParts) else 1
        loss = self._loss(own[: len(own) - last], denominator)
        with self.parallel.reducing(scale=1.0) as reduction:
            loss += self._loss(own[len(own) - last :], denominator)
            reduction.sums.append(loss)
        return reduction.sums[0]

    def _loss(self, own: list[Pair], denominator: Any) -> float:
        return float(self._parts.gradients(own, denominator)) if own else 0.0


def _check_that_it_trains(model: Any, criterion: Any, optimizer: Any) -> None:
    """Raise ValueError if the optimizer was made for another model: training would change nothing."""
    moved = [tensor for group in getattr(optimizer, "param_groups", ()) for tensor in group["params"]]
    parts = [part for part in (model, criterion) if hasattr(part, "parameters")]
    own = {id(tensor) for part in parts for tensor in part.parameters()}
    if moved and own and own.isdisjoint(map(id, moved)):
        raise ValueError(
            f"none of the {len(moved)} tensors that {type(optimizer).__name__} moves is a parameter of "
            f"{type(model).__name__}: make the optimizer after the model, from its parameters()"
        )
