"""The learning rate of every parameter group, step by step."""

from collections.abc import Mapping
from typing import Any

from ds_core.training.callbacks import Callback


class LearningRates(Callback):
    """Every `every` steps, put each group's learning rate for the next step into the history, kind "learning_rates".

    The first group's is in every training record anyway; this is for optimizers with several groups.

    Args:
        every: steps between two records.

    Raises:
        ValueError: `every` is less than 1.
    """

    everywhere = False

    def __init__(self, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"LearningRates: given every={every}, expected at least 1")
        self.every = every

    def on_step_end(self, trainer: Any, metrics: Mapping[str, Any]) -> None:
        if metrics["step"] % self.every == 0:
            groups = trainer.optimizer.param_groups
            rates = {f"group {index}": float(group["lr"]) for index, group in enumerate(groups)}
            trainer.history.add("learning_rates", metrics["step"], **rates)
