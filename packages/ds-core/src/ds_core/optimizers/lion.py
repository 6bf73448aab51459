"""Lion. Theory: docs/lion.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_betas, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, State, StepSizes, Tensors, number


def plain_lion(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient: algorithm 2 of the paper."""
    g, m, (beta1, beta2) = gradient, state["exp_avg"], group["betas"]
    c = beta1 * m + (1 - beta1) * g  # (1)
    d = torch.sign(c)  # (2)
    state["exp_avg"] = beta2 * m + (1 - beta2) * g  # (3)
    parameter -= group["lr"] * d  # (4) of update_rule.md


# The fast form updates the mean in place, and the base class moves many parameters by one call.
def lion_direction(gradient: Tensor, exp_avg: Tensor, beta1: float, beta2: float, out: Tensor | None = None) -> Tensor:
    """d = sign(beta1 m + (1 - beta1) g), all tensors of one shape; updates the mean in place.

    `out` may be `gradient`.
    """
    mixed = torch.lerp(exp_avg, gradient, 1 - beta1)  # c = beta1 m + (1 - beta1) g                     (1)
    exp_avg.lerp_(gradient, 1 - beta2)  # m = beta2 m + (1 - beta2) g                                   (3)
    return torch.sign(mixed, out=out)  # d = sign(c)                                                    (2)


class Lion(FlatOptimizer):
    """Every number of a parameter moves by the learning rate, up or down by the sign of a mean of its gradients.

    Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2. PyTorch has none; arguments, state
    and their names are as for `AdamW`. The paper advises a learning rate a third to a tenth of AdamW's, and a weight
    decay as many times larger.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        betas: how much the mean counts beside the gradient in the sign, and decay of the mean from step to step;
            from 0 up to below 1.
        weight_decay: lambda, decoupled: parameters shrink by lr * weight_decay a step.
        maximize: ascend instead of descend.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, a beta outside [0, 1), no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    fixed: ClassVar = {"decoupled_weight_decay": True}

    def __init__(
        self,
        params: Parameters,
        lr: Number = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize, **self.fixed}
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_lion(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_betas(group["betas"])
        check_at_least_zero("weight_decay value", group["weight_decay"])

    def state_names(self, group: Options) -> Sequence[str]:
        return ("exp_avg",)

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        return (number(group["lr"]),)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        beta1, beta2 = group["betas"]
        return lion_direction(gradient, tensors[0], beta1, beta2, out), None
