"""Adamax. Theory: docs/adamax.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_betas, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, State, StepSizes, Tensors, counted_, number


def plain_adamax(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient: algorithm 2 of the paper."""
    g, (beta1, beta2) = gradient, group["betas"]
    t = counted_(state["step"])  # t = t + 1
    m = state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * g  # (1)
    u = state["exp_inf"] = torch.maximum(beta2 * state["exp_inf"], torch.abs(g) + group["eps"])  # (2)
    d = m / u  # (3)
    r = group["lr"] / (1 - beta1**t)  # (4)
    parameter -= r * d  # (4) of update_rule.md


# The fast form updates mean and maximum in place, and the base class divides and moves in one operation.
def adamax_direction(
    gradient: Tensor,
    exp_avg: Tensor,
    exp_inf: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    out: Tensor | None = None,
) -> Direction:
    """d = m / u, all tensors of one shape; updates mean and maximum in place. `out` may be `gradient`."""
    exp_avg.lerp_(gradient, 1 - beta1)  # m = beta1 m + (1 - beta1) g                                   (1)
    size = torch.abs(gradient, out=out).add_(eps)
    torch.maximum(exp_inf.mul_(beta2), size, out=exp_inf)  # u = max(beta2 u, |g| + eps)                (2)
    return exp_avg, exp_inf  # d = m / u                                                                (3)


def adamax_step_size(learning_rate: Number, beta1: float, step: Number) -> Number:
    """r = lr / (1 - beta1^t) with t = step."""
    return learning_rate / (1 - beta1**step)  # (4)


class Adamax(FlatOptimizer):
    """Adam with the largest of the last gradients, each fading with its age, in the place of their mean square.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2. Twin of torch.optim.Adamax: same
    arguments without `foreach`, `capturable` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        betas: decay from step to step of the mean and of the maximum, from 0 up to below 1.
        eps: added to the size of each gradient.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        maximize: ascend instead of descend.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, a beta outside [0, 1), no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    scalars: ClassVar = {"step": 0.0}

    def __init__(
        self,
        params: Parameters,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_adamax(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least_zero("weight_decay value", group["weight_decay"])

    def state_names(self, group: Options) -> Sequence[str]:
        return ("exp_avg", "exp_inf")

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        return (adamax_step_size(number(group["lr"]), group["betas"][0], counted_(scalars[0])),)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        (exp_avg, exp_inf), (beta1, beta2) = tensors, group["betas"]
        return adamax_direction(gradient, exp_avg, exp_inf, beta1, beta2, group["eps"], out)
