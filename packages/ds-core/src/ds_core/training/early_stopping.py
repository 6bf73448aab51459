"""Stop when evaluations stop improving, and go back to the best weights."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ds_core.training.callbacks import Best, Callback


class EarlyStopping(Callback):
    """Stop when an evaluated value has not become better for `patience` evaluations (Prechelt, 1998).

    Args:
        value: which value of `evaluate`.
        patience: evaluations without improvement before the run stops.
        minimum_change: by how much a value must be better to count.
        largest: whether larger is better.
        restore_best: give the model the weights and buffers of its best evaluation when the run is stopped here. They
            are kept in memory, and in every checkpoint.

    Raises:
        ValueError: `patience` is less than 1, or `minimum_change` negative or NaN.
    """

    def __init__(
        self,
        value: str = "loss",
        patience: int = 3,
        minimum_change: float = 0.0,
        largest: bool = False,
        restore_best: bool = False,
    ) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: given patience {patience}, expected at least 1")
        self.best = Best(self, value, largest, minimum_change)
        self.patience = patience
        self.restore_best = restore_best
        self.waited = 0
        self.step = 0
        self.weights: dict[str, Tensor] = {}

    def on_evaluate(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if self.best.improved(metrics):
            self.waited, self.step = 0, metrics.get("step", 0)
            if self.restore_best:
                self.weights = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
            return
        self.waited += 1
        if self.waited >= self.patience:
            self._stop(trainer)

    def _stop(self, trainer: Any) -> None:
        best = "a number" if self.best.number is None else f"{self.best.number:.4g}"
        reason = f"{self.best.value} has not become better than {best} for {self.waited} evaluations"
        if self.weights:
            trainer.model.load_state_dict(self.weights)
            reason += f"; the weights of step {self.step} are back"
        trainer.stop(reason)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.number, "waited": self.waited, "step": self.step, "weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best.number, self.waited = state["best"], state["waited"]
        self.step, self.weights = state["step"], dict(state["weights"])
