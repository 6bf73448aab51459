"""Adamax. Theory: docs/adamax.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.optimizer import BaseOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_betas, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, Sizes, counted_, number


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


def adamax_size(learning_rate: Number, beta1: float, step: Number) -> Number:
    """r = lr / (1 - beta1^t), where t = step."""
    return learning_rate / (1 - beta1**step)  # (4)


class Adamax(BaseOptimizer):
    """Adam with the largest of the last gradients, each fading with its age, in the place of their mean square.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2. Twin of torch.optim.Adamax: same
    arguments without `foreach`, `capturable` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        betas: decay from step to step of the mean and of the maximum, from 0 up to below 1.
        eps: added to the size of each gradient.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        maximize: go uphill.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, a beta outside [0, 1), no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    numbers: ClassVar = {"step": 0.0}

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

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least_zero("weight_decay value", group["weight_decay"])

    def moments(self, group: Options) -> Sequence[str]:
        return ("exp_avg", "exp_inf")

    def sizes(self, group: Options, numbers: Sequence[Tensor]) -> Sizes:
        return (adamax_size(number(group["lr"]), group["betas"][0], counted_(numbers[0])),)

    def direction(
        self, gradient: Tensor, moments: Sequence[Tensor], sizes: Sizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        (exp_avg, exp_inf), (beta1, beta2) = moments, group["betas"]
        return adamax_direction(gradient, exp_avg, exp_inf, beta1, beta2, group["eps"], out)
