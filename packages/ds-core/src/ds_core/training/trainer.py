"""One training loop for every model: docs/trainer.md walks through it."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ds_core.data.batches import Batches
from ds_core.distributed.data_parallel import DataParallel
from ds_core.engine.random_state import random_state, unchanged_random_state
from ds_core.errors import CheckpointError, Interrupted, NonFiniteError, UserError
from ds_core.training.checkpoint import save_checkpoint
from ds_core.training.evaluation import evaluation_mode
from ds_core.training.history import FINAL, History
from ds_core.training.progress import Progress
from ds_core.training.run_files import RunFiles
from ds_core.training.run_state import BeforeEnd, check_weights, load_run, run_state, what_to_know
from ds_core.training.stepper import StepError, Stepper
from ds_core.training.trainer_parts import check_counts, check_parts


class Trainer:
    """Trains a model: steps, evaluations, checkpoints, and a history of them.

    A step is: forward and backward over `accumulate` micro-batches, clipping, the
    optimizer, the schedule. With a `folder` the run can be killed at any moment and
    resumed (`resume()`, then `fit` again), and ends bit for bit where it would have.

    Args:
        model: a `Module`; its backward takes what `criterion.backward()` returns.
        criterion: called with (output, target), a scalar mean loss.
        optimizer: any `Optimizer`.
        schedule: anything with `step()` and `state_dict()`; stepped after every step, or called as a callback.
        clip_norm: the gradient norm above which gradients are scaled down to it.
        accumulate: micro-batches per step; step k takes the batches from k * accumulate on.
        compile: run each step as one compiled graph; every `group["lr"]` becomes a tensor.
        folder: where checkpoint and log go; without it nothing is written.
        evaluate: called with the model in evaluation mode, nothing being recorded; returns values by name,
            of which the lowest `loss` is remembered. What it draws at random changes nothing in training.
        evaluate_every: steps between evaluations; there is always one at the end of the run. If none was due there, it
            is no part of the run: its checkpoint is written before, and the run with more steps forgets it.
        checkpoint_every: steps between checkpoints, None: one with every evaluation; always one at the end.
        callbacks: see `callbacks.Callback`; of several processes each calls them, but for those with an attribute
            `everywhere = False`, which only write and are rank 0's alone.
        progress: whether a bar and notes are shown.
        parallel: for several processes; default a `DataParallel` of those that `ds train` was started with, if more
            than one. Each then takes its share of every batch, and evaluates; what rank 0 finds counts.

    Attributes:
        step: optimizer steps taken.
        history: a `History`.
        evaluated: the step of the last evaluation.
        best: `{"step": ..., "loss": ...}` of the evaluation with the lowest loss, or None.
        stopped: why a callback ended the run early, or None.
        seconds: time spent in steps, in all sessions of the run.
    """

    def __init__(
        self,
        model: Any,
        criterion: Any,
        optimizer: Any,
        *,
        schedule: Any = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        compile: bool = False,
        folder: str | Path | None = None,
        evaluate: Callable[[Any], Mapping[str, Any]] | None = None,
        evaluate_every: int | None = None,
        checkpoint_every: int | None = None,
        callbacks: Iterable[Any] = (),
        progress: bool = True,
        parallel: DataParallel | None = None,
    ) -> None:
        check_parts("Trainer", model, criterion, optimizer)
        check_counts(clip_norm, accumulate=accumulate, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
        self.model = model
        self.optimizer = optimizer
        self.parallel = DataParallel(model, criterion) if parallel is None else parallel
        self.folder = None if folder is None else Path(folder)
        self.evaluate = evaluate
        self.evaluate_every = evaluate_every
        self.checkpoint_every = checkpoint_every
        first = self.parallel.processes.first
        callbacks = list(callbacks)
        if hasattr(schedule, "on_evaluate"):  # it goes by what is evaluated, not by steps, as ReduceLROnPlateau does
            callbacks, schedule = [*callbacks, schedule], None
        self._may_stop = bool(callbacks)
        self.callbacks = [callback for callback in callbacks if first or getattr(callback, "everywhere", True)]
        self.step = self.evaluated = 0
        self._files = RunFiles(folder, checkpoint_every)
        self.history = History(self._files.log if first else None)
        self.best: dict[str, Any] | None = None
        self.stopped: str | None = None
        self.seconds = 0.0
        self._parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "criterion": criterion}
        self._stepper = Stepper(
            *(model, criterion, optimizer, schedule, clip_norm, accumulate, compile, self.parallel),
            on_gradients=lambda: self._tell("on_gradients"),
        )
        self._progress = Progress(progress and first)
        self._resumed = False
        self._saved: int | None = None  # the step of the checkpoint, unless something has happened since
        self._before_end: BeforeEnd | None = None  # the run before the evaluation at its end, if none was due

    def fit(self, batches: Batches, steps: int) -> History:
        """Train until `step` is `steps`; a resumed trainer goes on where it stood.

        Raises:
            NonFiniteError: the loss or the gradient norm is infinite or NaN. The last good checkpoint is kept.
            Interrupted: at Ctrl-C or SIGTERM, after the step and its checkpoint; a second one stops at once.
            WriteError: disk full or folder not writable. The last checkpoint is kept.
            UserError: the folder holds a run that was not resumed, or a log that we did not write, or another run
                trains in it; or the run is beyond `steps` already.
        """
        batches = self.parallel.share(batches)
        with self._files.held(self.parallel.processes, make=True):
            return self._fit(batches, steps)

    def _fit(self, batches: Batches, steps: int) -> History:
        self.parallel.processes.on_first(lambda: self._open(steps))
        self._continue(steps)
        self._stepper.prepare()
        self.model.train()
        self._progress.start(steps, self.step)
        heard = "finishing this step, then saving; Ctrl-C again stops at once"
        try:
            with self.parallel.interrupts(heard) as interrupts:
                # every turn begins between two steps, so a run taken up from a checkpoint begins where it was left
                while not interrupts.requested:
                    if self._evaluation_is_due():
                        self._evaluate()
                    if self._checkpoint_is_due(steps):
                        self.save()
                    if self._ends(steps):
                        self._evaluate_at_end()
                        return self.history
                    self._take_step(batches)
                raise self._interrupted(steps)
        finally:
            self._progress.close()
            self._tell("on_fit_end")
            self.history.close()

    def stop(self, reason: str) -> None:
        """End the run here, between two steps (for callbacks)."""
        self.stopped = reason
        self.note(f"stopping after step {self.step}: {reason}")

    def note(self, text: str) -> None:
        """Show a line on stderr, above the progress bar, if that is shown."""
        self._progress.note(text)

    def write(self, text: str) -> None:
        """Show text on stdout, above the progress bar: samples, tables. Rank 0's alone."""
        if self.parallel.processes.first:
            self._progress.write(text)

    def save(self, path: str | Path | None = None) -> Path:
        """Write the checkpoint now, the folder's or another one; to be called on all processes.

        Raises:
            NonFiniteError: the weights are not finite; the previous checkpoint is kept.
            WriteError: it cannot be written; the previous one is kept.
        """
        target = self._files.checkpoint if path is None else Path(path)
        check_weights(self.model, self.step, self._files.last_good())
        self.parallel.check_equal()
        state = run_state(self) if self._before_end is None else self._before_end.state
        extra = {**state, "parallel": self.parallel.state_dict()}
        random = self.parallel.processes.gather(random_state())

        def write() -> None:
            with self._files.writing(own=path is None):
                self.history.sync()
                save_checkpoint(target, **self._parts, step=self.step, extra=extra, random=random)

        self.parallel.processes.on_first(write)
        if path is None:
            self._saved = self.step
        return target

    def resume(self, path: str | Path | None = None) -> bool:
        """Take up the run in the folder, or in another checkpoint: `fit` then goes on with it.

        Returns:
            False where the run was killed before its first checkpoint: it starts again from step 0.

        Raises:
            CheckpointError: it is damaged, newer, of another run, or was lost; or `path` does not exist.
            UserError: `path` is a checkpoint from elsewhere, and the folder holds a run; or we did not write its log;
                or another run trains in the folder.
        """
        source = self._files.checkpoint if path is None else Path(path)
        with self._files.held(self.parallel.processes):
            return self._resume(source, path is not None)

    def _resume(self, source: Path, given: bool) -> bool:
        own = self._files.is_own(source)
        if self.parallel.processes.same(own) != own:
            raise CheckpointError(f"not every process sees {source}: they need a file system that all of them share")
        if not own and not given:
            self.parallel.processes.on_first(self._files.refuse_lost_checkpoint)
            self.history.rewind(0)
            self._resumed = True
            self.note(f"{self.folder} holds no checkpoint yet: starting from step 0")
            return False
        notes = load_run(self, source, self._parts)
        self._resumed = True
        self._stepper.forget()
        self._saved = self.step if own else None
        self._before_end = None
        self.history.rewind(self.step)
        self.note("\n".join([f"resuming after step {self.step}", *notes, *what_to_know(self)]))
        return True

    def _open(self, steps: int) -> None:
        if self.step > steps:
            raise UserError(f"the run is at step {self.step} already, beyond the {steps} steps asked for")
        if self.folder is not None and not self._resumed and self.step == 0:
            self._files.refuse_another_run()
            self.history.rewind(0)
        self._files.remove_leftovers()
        if self._files.note is not None:
            self.note(self._files.note)

    def _continue(self, steps: int) -> None:
        """Forget the evaluation at the end of what is no longer the end."""
        if self._before_end is not None and self.step < steps:
            self.history.rewind(self.step)
            self._before_end.put_back(self)
            self._before_end = None

    def _take_step(self, batches: Batches) -> None:
        began = time.perf_counter()
        try:
            values = self._stepper.take(batches, self.step)
        except StepError as error:
            checkpoint = self._files.checkpoint if self._files.has_checkpoint() else None
            self.note(f"step {self.step + 1}: {error}; repeating it to find where")
            where = self._stepper.explain(batches, self.step, checkpoint)
            raise NonFiniteError(f"step {self.step + 1}: {error}; {where}; {self._files.last_good()}") from None
        self.step += 1
        self.seconds += time.perf_counter() - began
        record = self.history.add("train", self.step, **values, seconds=round(self.seconds, 4))
        self._progress.advance(loss=values["loss"])
        self._tell("on_step_end", record)
        self._agree_to_stop()

    def _ends(self, steps: int) -> bool:
        return self.step >= steps or self.stopped is not None

    def _evaluation_is_due(self) -> bool:
        every = None if self.evaluate is None else self.evaluate_every
        return every is not None and self.step != self.evaluated and self.step % every == 0

    def _checkpoint_is_due(self, steps: int) -> bool:
        if self.folder is None or self._saved == self.step:
            return False
        if self.checkpoint_every is None:
            return self._ends(steps) or 0 < self.step == self.evaluated
        return self._ends(steps) or (self.step > 0 and self.step % self.checkpoint_every == 0)

    def _evaluate_at_end(self) -> None:
        if self.evaluate is not None and self.step != self.evaluated:
            saved, self._before_end = self._saved, BeforeEnd(self)
            self._evaluate({FINAL: True})
            self._before_end.evaluated(self)
            self._saved = saved

    def _evaluate(self, mark: Mapping[str, Any] = {}) -> None:
        assert self.evaluate is not None
        with unchanged_random_state(), evaluation_mode(self.model):
            values = {name: float(value) for name, value in self.evaluate(self.model).items()}
        values = self.parallel.processes.same(values)
        self.evaluated, self._saved = self.step, None
        loss = values.get("loss", math.inf)
        if loss < (math.inf if self.best is None else self.best["loss"]):
            self.best = {"step": self.step, "loss": loss}
        record = self.history.add("evaluation", self.step, **{**values, **mark})
        self.note(f"step {self.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        self._tell("on_evaluate", record)
        self._agree_to_stop()

    def _agree_to_stop(self) -> None:
        if self._may_stop:
            self.stopped = self.parallel.agree(self.stopped)

    def _interrupted(self, steps: int) -> Interrupted:
        saved = "without a folder nothing was saved" if self.folder is None else f"saved in {self.save()}"
        return Interrupted(f"stopped after step {self.step} of {steps}; {saved}")

    def _tell(self, event: str, *record: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            hook = getattr(callback, event, None)
            if hook is not None:
                hook(self, *record)
