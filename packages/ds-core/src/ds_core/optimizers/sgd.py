"""Stochastic gradient descent with momentum. Theory: docs/sgd.md."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, State, StepSizes, Tensors, number


def plain_sgd(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient."""
    g, mu, tau = gradient, group["momentum"], group["dampening"]
    d = g
    if mu != 0:
        b = state.get("momentum_buffer")
        b = g.clone() if b is None else mu * b + (1 - tau) * g  # (1)
        d = g + mu * b if group["nesterov"] else b  # (3), else (2)
        state["momentum_buffer"] = b
    parameter -= group["lr"] * d  # (4) of update_rule.md


# The fast form updates the buffer in place, in one pass if there is no dampening, and the base class moves many
# parameters by one call.
def sgd_direction(
    gradient: Tensor,
    momentum_buffer: Tensor,
    momentum: float,
    dampening: float,
    nesterov: bool,
    out: Tensor | None = None,
) -> Tensor:
    """d with momentum, all tensors of one shape; updates the buffer in place. `out` may be `gradient`."""
    if dampening == 0:  # in one pass
        torch.add(gradient, momentum_buffer, alpha=momentum, out=momentum_buffer)  # b = mu b + g       (1)
    else:
        momentum_buffer.mul_(momentum).add_(gradient, alpha=1 - dampening)  # b = mu b + (1 - tau) g    (1)
    if nesterov:
        return torch.add(gradient, momentum_buffer, alpha=momentum, out=out)  # d = g + mu b            (3)
    return momentum_buffer  # d = b                                                                     (2)


class SGD(FlatOptimizer):
    """Against the gradient, or with momentum against a sum of gradients that fades.

    Robbins and Monro, "A Stochastic Approximation Method", 1951; momentum as in Sutskever et al., "On the importance
    of initialization and momentum in deep learning", 2013, with the learning rate outside the sum. Twin of
    torch.optim.SGD: same arguments without `foreach`, `fused` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        momentum: mu, how much of the sum is left after a step.
        dampening: tau; each gradient but the first enters the sum times 1 - tau.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        nesterov: look one step of momentum ahead.
        maximize: ascend instead of descend.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, Nesterov without momentum or with dampening, no parameters, one twice, a
            complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    def __init__(
        self,
        params: Parameters,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_sgd(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("momentum value", group["momentum"])
        check_at_least_zero("weight_decay value", group["weight_decay"])
        if math.isnan(group["dampening"]):
            raise ValueError(f"Invalid dampening value: {group['dampening']}")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def state_names(self, group: Options) -> Sequence[str]:
        return () if group["momentum"] == 0 else ("momentum_buffer",)

    def first_differs(self, group: Options) -> bool:
        return bool(group["dampening"] != 0)

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        return (number(group["lr"]),)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        if not tensors:
            return gradient, None
        dampening = 0.0 if first else group["dampening"]  # the first buffer is the gradient itself
        return sgd_direction(gradient, tensors[0], group["momentum"], dampening, group["nesterov"], out), None
