"""Adadelta. Theory: docs/adadelta.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, State, StepSizes, Tensors, counted_, number


def plain_adadelta(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient: algorithm 1 of the paper."""
    g, rho, eps = gradient, group["rho"], group["eps"]
    counted_(state["step"])  # only torch.optim's state has a use for it
    v = state["square_avg"] = rho * state["square_avg"] + (1 - rho) * g**2  # (1)
    u = state["acc_delta"]
    d = torch.sqrt(u + eps) / torch.sqrt(v + eps) * g  # (2)
    state["acc_delta"] = rho * u + (1 - rho) * d**2  # (3)
    parameter -= group["lr"] * d  # (4) of update_rule.md


# The fast form updates both means in place and needs two temporaries: the roots share one, and the quotient is taken
# before the product, so that d can lie in the other.
def adadelta_direction(
    gradient: Tensor, square_avg: Tensor, acc_delta: Tensor, rho: float, eps: float, out: Tensor | None = None
) -> Tensor:
    """d = g sqrt(u + eps) / sqrt(v + eps), all tensors of one shape; updates both means in place.

    `out` may be `gradient`.
    """
    square_avg.mul_(rho).addcmul_(gradient, gradient, value=1 - rho)  # v = rho v + (1 - rho) g^2       (1)
    root = torch.add(square_avg, eps).sqrt_()
    delta = torch.div(gradient, root, out=out)
    delta.mul_(torch.add(acc_delta, eps, out=root).sqrt_())  # d = g sqrt(u + eps) / sqrt(v + eps)      (2)
    acc_delta.mul_(rho).addcmul_(delta, delta, value=1 - rho)  # u = rho u + (1 - rho) d^2              (3)
    return delta


class Adadelta(FlatOptimizer):
    """The gradient in the units of the parameter: times the size of its last steps, by the size of its last gradients.

    Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1. Twin of torch.optim.Adadelta: same
    arguments without `foreach`, `capturable` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: by what each step is multiplied, 1 in the paper; a tensor may be changed in place between steps, also of a
            compiled step.
        rho: decay of both means from step to step, from 0 to 1.
        eps: added to both means; its root is where the size of the steps starts from.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        maximize: ascend instead of descend.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, rho above 1, no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    scalars: ClassVar = {"step": 0.0}

    def __init__(
        self,
        params: Parameters,
        lr: Number = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_adadelta(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        if not 0 <= group["rho"] <= 1:
            raise ValueError(f"Invalid rho value: {group['rho']}")
        check_at_least_zero("epsilon value", group["eps"])
        check_at_least_zero("weight_decay value", group["weight_decay"])

    def state_names(self, group: Options) -> Sequence[str]:
        return ("square_avg", "acc_delta")

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        counted_(scalars[0])  # only torch.optim's state has a use for it
        return (number(group["lr"]),)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        square_avg, acc_delta = tensors
        return adadelta_direction(gradient, square_avg, acc_delta, group["rho"], group["eps"], out), None
