"""RMSprop. Theory: docs/rmsprop.md."""

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


def plain_rmsprop(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient."""
    g, alpha, mu, eps = gradient, group["alpha"], group["momentum"], group["eps"]
    counted_(state["step"])  # only torch.optim's state has a use for it
    v = state["square_avg"] = alpha * state["square_avg"] + (1 - alpha) * g**2  # (1)
    d = g / (torch.sqrt(v) + eps)  # (2)
    if group["centered"]:
        m = state["grad_avg"] = alpha * state["grad_avg"] + (1 - alpha) * g  # (3)
        d = g / (torch.sqrt(v - m**2) + eps)  # (4)
    if mu > 0:
        d = state["momentum_buffer"] = mu * state["momentum_buffer"] + d  # (5)
    parameter -= group["lr"] * d  # (4) of update_rule.md


# The fast form updates the means in place and divides by the root while it moves, or in memory that is there already.
def rmsprop_direction(
    gradient: Tensor,
    square_avg: Tensor,
    momentum_buffer: Tensor | None,
    grad_avg: Tensor | None,
    alpha: float,
    eps: float,
    momentum: float,
    out: Tensor | None = None,
) -> Direction:
    """d = g / (sqrt(v) + eps), or a fading sum of those; updates all but `gradient`, which `out` may be, in place."""
    square_avg.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)  # v = alpha v + (1 - alpha) g^2  (1)
    work = None if out is gradient else out
    if grad_avg is None:
        root = torch.sqrt(square_avg, out=work)
    else:
        grad_avg.lerp_(gradient, 1 - alpha)  # m = alpha m + (1 - alpha) g                              (3)
        root = torch.addcmul(square_avg, grad_avg, grad_avg, value=-1, out=work).sqrt_()  # sqrt(v - m^2)  (4)
    root.add_(eps)
    if momentum_buffer is None:
        return quotient(gradient, root, out)  # d = g / (sqrt(v) + eps)                                 (2)
    return momentum_buffer.mul_(momentum).addcdiv_(gradient, root), None  # b = mu b + g / (sqrt(v) + eps)  (5)


class RMSprop(FlatOptimizer):
    """The gradient divided by the root of the mean of its last squares.

    Hinton, "Neural Networks for Machine Learning", 2012, lecture 6e; centered as in Graves, "Generating Sequences With
    Recurrent Neural Networks", 2013, equations 38 to 45. Twin of torch.optim.RMSprop: same arguments without
    `capturable`, `foreach` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        alpha: decay of the means from step to step.
        eps: added to the root.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        momentum: mu, how much of the sum of quotients is left after a step; 0 for no sum.
        centered: divide by the standard deviation instead of the root mean square.
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
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_rmsprop(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("epsilon value", group["eps"])
        check_at_least_zero("momentum value", group["momentum"])
        check_at_least_zero("weight_decay value", group["weight_decay"])
        check_at_least_zero("alpha value", group["alpha"])

    def state_names(self, group: Options) -> Sequence[str]:
        momentum = ("momentum_buffer",) if group["momentum"] > 0 else ()
        return ("square_avg", *momentum, *(("grad_avg",) if group["centered"] else ()))

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        counted_(scalars[0])  # only torch.optim's state has a use for it
        return (number(group["lr"]),)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        kept = dict(zip(self.state_names(group), tensors, strict=True))
        return rmsprop_direction(
            gradient,
            kept["square_avg"],
            kept.get("momentum_buffer"),
            kept.get("grad_avg"),
            group["alpha"],
            group["eps"],
            group["momentum"],
            out,
        )
