"""Learning rates by a function of one's own. Theory: docs/lambda_lr.md."""

from collections.abc import Callable, Sequence
from typing import Any

from ds_core.schedules.schedule import Schedule


class LambdaLR(Schedule):
    """The learning rate times what a function says of the number of the step.

    Twin of torch.optim.lr_scheduler.LambdaLR.

    Args:
        optimizer: whose learning rates are set.
        lr_lambda: from the number of the step, from 0 on, to a factor; one function, or one for each group. Functions
            are not in `state_dict`.
        last_epoch: see `Schedule`.

    Raises:
        ValueError: as many functions as there are groups were expected.
    """

    def __init__(
        self,
        optimizer: Any,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise ValueError(f"Expected {groups} lr_lambdas, but got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def rates(self, step: int) -> list[float]:
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * float(function(step)) for base, function in pairs]  # lr_s = lr f(s)              (1)
