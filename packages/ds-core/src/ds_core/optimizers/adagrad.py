"""Adagrad. Theory: docs/adagrad.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_learning_rate
from ds_core.optimizers.update_rule import (
    Direction,
    Number,
    Options,
    State,
    StepSizes,
    Tensors,
    counted_,
    number,
    quotient,
)


def plain_adagrad(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient."""
    g, t = gradient, counted_(state["step"])  # t = t + 1
    s = state["sum"] = state["sum"] + g**2  # (1)
    d = g / (torch.sqrt(s) + group["eps"])  # (2)
    r = group["lr"] / (1 + (t - 1) * group["lr_decay"])  # (3)
    parameter -= r * d  # (4) of update_rule.md


# The fast form updates the sum in place and divides by the root while it moves, or in memory that is there already.
def adagrad_direction(gradient: Tensor, total: Tensor, eps: float, out: Tensor | None = None) -> Direction:
    """d = g / (sqrt(s) + eps), all tensors of one shape; updates the sum in place. `out` may be `gradient`."""
    total.addcmul_(gradient, gradient)  # s = s + g^2                                                   (1)
    root = torch.sqrt(total, out=None if out is gradient else out).add_(eps)
    return quotient(gradient, root, out)  # d = g / (sqrt(s) + eps)                                     (2)


def adagrad_step_size(learning_rate: Number, lr_decay: float, step: Number) -> Number:
    """r = lr / (1 + (t - 1) lr_decay) with t = step."""
    return learning_rate / (1 + (step - 1) * lr_decay)  # (3)


class Adagrad(FlatOptimizer):
    """Steps that get shorter the more gradient a parameter has seen, each number of it by itself.

    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", 2011, the
    diagonal form of figure 1. Twin of torch.optim.Adagrad: same arguments without `foreach`, `fused` and
    `differentiable`, same state, which is made at once.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        lr_decay: how fast the learning rate itself falls: after 1 / lr_decay steps it is half.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        initial_accumulator_value: what the sum of squares starts from.
        eps: added to the root of the sum.
        maximize: ascend instead of descend.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    scalars: ClassVar = {"step": 0.0}

    def __init__(
        self,
        params: Parameters,
        lr: Number = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flat=flat)
        for group in self.param_groups:
            for parameter in group["params"]:
                self._complete_state(parameter, group)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_adagrad(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("lr_decay value", group["lr_decay"])
        check_at_least_zero("weight_decay value", group["weight_decay"])
        check_at_least_zero("initial_accumulator_value value", group["initial_accumulator_value"])
        check_at_least_zero("epsilon value", group["eps"])

    def state_names(self, group: Options) -> Sequence[str]:
        return ("sum",)

    def start(self, name: str, group: Options) -> float:
        return float(group["initial_accumulator_value"])

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        return (adagrad_step_size(number(group["lr"]), group["lr_decay"], counted_(scalars[0])),)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        return adagrad_direction(gradient, tensors[0], group["eps"], out)
