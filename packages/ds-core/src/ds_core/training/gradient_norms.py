"""How large each parameter's gradient is, now and then: where it vanishes or explodes."""

from typing import Any

from torch import Tensor

from ds_core.optimizers.clipping import get_total_norm
from ds_core.training.callbacks import Callback


class GradientNorms(Callback):
    """Every `every` steps, put the Euclidean norm of each parameter's gradient, before clipping, into the history.

    The records are of the kind "gradient_norms", by parameter's name; a parameter without gradient has none. The norm
    of all together is in every training record where the Trainer clips; `clip_norm=math.inf` only measures it.

    Args:
        every: steps between two records.

    Raises:
        ValueError: `every` is less than 1.
    """

    everywhere = False

    def __init__(self, every: int = 100) -> None:
        if every < 1:
            raise ValueError(f"GradientNorms: given every={every}, expected at least 1")
        self.every = every

    def on_gradients(self, trainer: Any) -> None:
        if trainer.step % self.every != 0:
            return
        gradients: dict[str, Tensor] = {
            name: parameter.grad for name, parameter in trainer.model.named_parameters() if parameter.grad is not None
        }
        norms = {name: float(get_total_norm([gradient])) for name, gradient in gradients.items()}
        trainer.history.add("gradient_norms", trainer.step + 1, **norms)
