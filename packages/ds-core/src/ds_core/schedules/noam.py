"""The schedule of the first transformer. Theory: docs/noam.md."""

from typing import Any

from ds_core.schedules.schedule import Schedule, check_amount, check_count


class NoamLR(Schedule):
    """Warm-up in a straight line, then down with the inverse root of the step; wide models get smaller rates.

    Vaswani et al., "Attention Is All You Need", 2017, section 5.3, equation 3. All groups get this rate, whatever their
    own is: the formula stands for itself. torch.optim.lr_scheduler has none like it.

    Args:
        optimizer: whose learning rates are set.
        model_size: d, the width of the model.
        warmup_steps: w, the steps of the warm-up.
        factor: what the formula is multiplied by.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: `model_size` or `warmup_steps` is below 1, `factor` below 0.
    """

    def __init__(
        self, optimizer: Any, model_size: int, warmup_steps: int, factor: float = 1, last_epoch: int = -1
    ) -> None:
        check_count(self, "model_size", model_size)
        check_count(self, "warmup_steps", warmup_steps)
        check_amount(self, "factor", factor)
        self.model_size = model_size
        self.warmup_steps = warmup_steps
        self.factor = factor
        super().__init__(optimizer, last_epoch)

    def rate(self, step: int, base: float) -> float:
        number = step + 1  # the paper counts from 1
        # lr = f d^-0.5 min(n^-0.5, n w^-1.5)                                                            (1)
        return float(self.factor * self.model_size**-0.5 * min(number**-0.5, number * self.warmup_steps**-1.5))
