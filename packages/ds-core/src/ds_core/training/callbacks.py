"""What a Trainer calls while it trains."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ds_core.errors import CheckpointError


class Callback:
    """Override what you need; any object with one of these methods will do.

    A callback with `state_dict()` and `load_state_dict(state)` has its state in the
    checkpoint (numbers, strings, tensors, lists and dicts of them), so a resumed run
    goes on as if it had not been stopped.
    """

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        """After each step; `metrics` is its record in the history."""

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        """After each evaluation; `metrics` is its record in the history."""


class EarlyStopping(Callback):
    """Stop when an evaluated value has not become better for `patience` evaluations (Prechelt, 1998).

    Args:
        value: which value of `evaluate`.
        patience: evaluations without improvement before the run stops.
        minimum_change: by how much a value must be better to count.
        largest: whether larger is better.
    """

    def __init__(
        self, value: str = "loss", patience: int = 3, minimum_change: float = 0.0, largest: bool = False
    ) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: given patience {patience}, expected at least 1")
        self.value = value
        self.patience = patience
        self.minimum_change = minimum_change
        self.largest = largest
        self.best = -math.inf if largest else math.inf
        self.waited = 0

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if self.value not in metrics:
            raise ValueError(f"EarlyStopping: evaluate gave {', '.join(metrics)}, expected {self.value}")
        now = metrics[self.value]
        if (now - self.best if self.largest else self.best - now) > self.minimum_change:
            self.best, self.waited = now, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            trainer.stop(f"{self.value} has not become better than {self.best:.4g} for {self.waited} evaluations")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


def match_states(
    source: Path, callbacks: Iterable[Any], saved: Iterable[Mapping[str, Any]]
) -> list[tuple[Any, dict[str, Any]]]:
    """The callbacks that can load a state, each with the one of its class from the checkpoint `source`.

    Several of one class take theirs in the order in which they were saved.

    Raises:
        CheckpointError: there is none for one of them.
    """
    left, matched = list(saved), []
    for callback in callbacks:
        if not hasattr(callback, "load_state_dict"):
            continue
        name = type(callback).__name__
        index = next((index for index, entry in enumerate(left) if entry["class"] == name), None)
        if index is None:
            raise CheckpointError(f"{source} has no state for the callback {name}")
        matched.append((callback, left.pop(index)["state"]))
    return matched
