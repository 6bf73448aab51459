"""Stochastic gradient descent with momentum. Theory: docs/sgd.md."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ds_core.optimizer import BaseOptimizer, check_at_least_zero, check_learning_rate
from ds_core.parameter_groups import Parameters
from ds_core.update_rule import Number, Options, Sizes, number


def sgd_direction(
    gradient: Tensor,
    momentum_buffer: Tensor,
    momentum: float,
    dampening: float,
    nesterov: bool,
    out: Tensor | None = None,
) -> Tensor:
    """Where to go with momentum, all tensors of one shape; updates the buffer in place. `out` may be `gradient`."""
    momentum_buffer.mul_(momentum).add_(gradient, alpha=1 - dampening)  # b = mu b + (1 - tau) g        (1)
    if nesterov:
        return torch.add(gradient, momentum_buffer, alpha=momentum, out=out)  # d = g + mu b            (3)
    return momentum_buffer  # d = b                                                                     (2)


class SGD(BaseOptimizer):
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

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("momentum value", group["momentum"])
        check_at_least_zero("weight_decay value", group["weight_decay"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def moments(self, group: Options) -> Sequence[str]:
        return () if group["momentum"] == 0 else ("momentum_buffer",)

    def starts_from_zeros(self, group: Options) -> bool:
        return bool(group["dampening"] == 0)

    def sizes(self, group: Options, step: Number) -> Sizes:
        return (number(group["lr"]),)

    def direction(
        self, gradient: Tensor, moments: Sequence[Tensor], sizes: Sizes, group: Options, first: bool, out: Tensor | None
    ) -> Tensor:
        if not moments:
            return gradient
        dampening = 0.0 if first else group["dampening"]  # the first buffer is the gradient itself
        return sgd_direction(gradient, moments[0], group["momentum"], dampening, group["nesterov"], out)
