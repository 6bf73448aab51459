"""What of a run is neither model nor optimizer: the Trainer's own values, and the states of its callbacks."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ds_core.errors import CheckpointError, NonFiniteError
from ds_core.training.callbacks import match_states
from ds_core.training.checkpoint import describe_checkpoint, load_checkpoint
from ds_core.training.state_json import all_finite

_OWN = ("evaluated", "best", "stopped", "seconds")


def run_state(trainer: Any) -> dict[str, Any]:
    """What a checkpoint keeps of them."""
    callbacks = [
        {"class": type(callback).__name__, "state": callback.state_dict()}
        for callback in trainer.callbacks
        if hasattr(callback, "state_dict")
    ]
    return {"trainer": {name: getattr(trainer, name) for name in _OWN}, "callbacks": callbacks}


def load_run(trainer: Any, source: Path, parts: Mapping[str, Any]) -> list[str]:
    """Put the run in the checkpoint `source` back into place, except for its log; returns notes for the user.

    Raises:
        CheckpointError: it is damaged, newer or of another run.
        UserError: the folder's log is not ours.
    """
    extra = describe_checkpoint(source).extra
    if not {"trainer", "callbacks"} <= set(extra):
        raise CheckpointError(f"{source} was not written by a Trainer: load_checkpoint reads it")
    states = match_states(source, trainer.callbacks, extra["callbacks"])
    trainer.history.check()
    processes = trainer.parallel.processes
    found = load_checkpoint(source, **parts, rank=processes.rank, world_size=processes.world_size)
    trainer.parallel.load_state_dict(extra.get("parallel", {}))
    trainer.step = found.step
    _set_own(trainer, extra["trainer"])
    for callback, state in states:
        callback.load_state_dict(state)
    return found.notes


def what_to_know(trainer: Any) -> list[str]:
    """Notes on a run that has been taken up, once its log has been, too."""
    notes, logged = [], len(trainer.history.training)
    if trainer.stopped is not None:
        notes.append(f"the run had ended early: {trainer.stopped}")
    if trainer.folder is not None and logged < trainer.step and trainer.parallel.processes.first:
        notes.append(f"the log holds only {logged} of the {trainer.step} steps before")
    return notes


def check_weights(model: Any, step: int, last_good: str) -> None:
    """Raise NonFiniteError if weights hold NaN or an infinity; `last_good` says what is left to go on with."""
    spoiled = [name for name, tensor in model.named_parameters() if not all_finite([tensor])]
    if spoiled:
        raise NonFiniteError(f"after step {step} weights are not finite: {', '.join(spoiled[:3])}; {last_good}")


class BeforeEnd:
    """A run as it was before the evaluation at its end, which the same run with more steps would not have made.

    That evaluation may change what callbacks remember, learning rates and weights. A checkpoint is written with the
    `state` from before, and `put_back` makes a Trainer that is to go on in the same process what it would have become
    with more steps from the beginning.
    """

    def __init__(self, trainer: Any) -> None:
        self.state = copy.deepcopy(run_state(trainer))
        self._before = _numbers(trainer) if trainer.callbacks else {}
        self._after: dict[str, Tensor] = {}

    def evaluated(self, trainer: Any) -> None:
        """To be called when the callbacks have been told: only what they have changed is kept."""
        now = _numbers(trainer) if self._before else {}
        changed = [name for name, tensor in self._before.items() if not torch.equal(tensor, now[name])]
        self._before = {name: self._before[name] for name in changed}
        self._after = {name: now[name] for name in changed}

    @torch.no_grad()
    def put_back(self, trainer: Any) -> None:
        """Undo what the evaluation has changed; what somebody else has changed since then stays."""
        now = _numbers(trainer)
        _set_own(trainer, self.state["trainer"])
        loads = [callback for callback in trainer.callbacks if hasattr(callback, "load_state_dict")]
        for callback, state in match_states(Path("this run"), loads, self.state["callbacks"]):
            callback.load_state_dict(state)
        weights = {}
        for name, tensor in now.items():
            kind, _, which = name.partition(".")
            undone = name in self._after and torch.equal(tensor, self._after[name])
            if kind == "rates":
                _set_rate(trainer.optimizer.param_groups[int(which)], self._before[name] if undone else tensor)
            elif undone:
                weights[which] = self._before[name]
        if weights:
            trainer.model.load_state_dict({**trainer.model.state_dict(), **weights})


def _set_rate(group: dict[str, Any], rate: Tensor) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].copy_(rate)
    else:
        group["lr"] = rate.item()


def _set_own(trainer: Any, values: Mapping[str, Any]) -> None:
    for name in _OWN:
        setattr(trainer, name, values[name])


def _numbers(trainer: Any) -> dict[str, Tensor]:
    """Copies of all weights, buffers and learning rates."""
    rates = {
        f"rates.{index}": torch.as_tensor(group["lr"], dtype=None if torch.is_tensor(group["lr"]) else torch.float64)
        for index, group in enumerate(getattr(trainer.optimizer, "param_groups", []))
    }
    state = trainer.model.state_dict() if hasattr(trainer.model, "state_dict") else {}
    weights = {f"weights.{name}": tensor for name, tensor in state.items()}
    return {name: tensor.detach().clone() for name, tensor in {**rates, **weights}.items()}
