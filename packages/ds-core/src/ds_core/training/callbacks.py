"""What a Trainer calls while it trains."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ds_core.errors import CheckpointError
from ds_core.training.history import NO_METRICS


class Callback:
    """Override what you need; any object with one of these methods will do.

    A callback with `state_dict()` and `load_state_dict(state)` has its state in the
    checkpoint (numbers, strings, tensors, lists and dicts of them), so a resumed run
    goes on as if it had not been stopped.
    """

    def on_gradients(self, trainer: Any) -> None:
        """In each step, when every parameter's `.grad` is complete, before clipping; not where the step is compiled."""

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        """After each step; `metrics` is its record in the history."""

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        """After each evaluation; `metrics` is its record in the history.

        `metrics["final"]` is there, and true, if the evaluation was not due but the run ended. What is done then is
        forgotten if the run is trained further: the callback's state, learning rates and weights are put back.
        """

    def on_fit_end(self, trainer: Any) -> None:
        """When `fit` ends, however it ends."""


class Best:
    """Which evaluation was the best so far.

    Args:
        callback: who asks, for messages.
        value: which value of `evaluate`.
        largest: whether larger is better.
        minimum_change: by how much a value must be better to count.
    """

    def __init__(self, callback: object, value: str, largest: bool, minimum_change: float = 0.0) -> None:
        if not minimum_change >= 0:
            raise ValueError(f"{type(callback).__name__}: given minimum_change={minimum_change}, expected at least 0")
        self.name = type(callback).__name__
        self.value = value
        self.largest = largest
        self.minimum_change = minimum_change
        self.number: float | None = None

    def improved(self, metrics: Mapping[str, Any]) -> bool:
        """Whether this evaluation is better than all before; NaN never is."""
        if self.value not in metrics:
            given = [name for name in metrics if name not in NO_METRICS]
            raise ValueError(f"{self.name}: evaluate gave {', '.join(given)}, expected {self.value}")
        now = float(metrics[self.value])
        if self.number is None:
            better = now == now
        else:
            better = (now - self.number if self.largest else self.number - now) > self.minimum_change
        if better:
            self.number = now
        return better


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
