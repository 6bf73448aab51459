"""RAdam. Theory: docs/radam.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_betas, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, State, StepSizes, Tensors, counted_, number


def plain_radam(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient: algorithm 2 of the paper."""
    g, (beta1, beta2) = gradient, group["betas"]
    t = counted_(state["step"])  # t = t + 1
    m = state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * g  # (1)
    v = state["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - beta2) * g**2  # (2)
    rho_inf = 2 / (1 - beta2) - 1  # (3)
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)  # (4)
    if rho > 5:
        rectification = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5  # (5)
        d, c = m / (torch.sqrt(v) + group["eps"]), (1 - beta2**t) ** 0.5
        parameter -= group["lr"] * c * rectification / (1 - beta1**t) * d  # (6)
    else:
        parameter -= group["lr"] / (1 - beta1**t) * m  # (7)


# The fast form: size and switch are numbers, computed once a step for all parameters; the means are updated in place.
# In a compiled step both are tensors, and both branches are computed.
def radam_direction(
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    rectified: Number,
    beta1: float,
    beta2: float,
    eps: float,
    out: Tensor | None = None,
) -> Direction:
    """d = m / (sqrt(v) + eps) if `rectified`, else m; updates the means in place. `out` may be `gradient`."""
    exp_avg.lerp_(gradient, 1 - beta1)  # m = beta1 m + (1 - beta1) g                                   (1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2  (2)
    if not isinstance(rectified, Tensor) and not rectified:
        return exp_avg, None  # d = m                                                                   (7)
    root = torch.sqrt(exp_avg_sq, out=out).add_(eps)  # d = m / (sqrt(v) + eps)                         (6)
    return exp_avg, torch.where(rectified, root, 1.0) if isinstance(rectified, Tensor) else root


def radam_step_sizes(learning_rate: Number, beta1: float, beta2: float, step: Number) -> tuple[Number, Number]:
    """r, the size of the step, and whether it is rectified; both are tensors if `step` is one."""
    correction = 1 - beta2**step
    longest = 2 / (1 - beta2) - 1  # rho_inf = 2 / (1 - beta2) - 1                                      (3)
    length = longest - 2 * step * beta2**step / correction  # rho = rho_inf - 2 t beta2^t / (1 - beta2^t)  (4)
    rectified = length > 5
    if isinstance(rectified, Tensor):  # a graph has no branches: both are computed, and one is taken
        factor: Number = torch.where(rectified, _rectification(length, longest) * correction**0.5, 1.0)
    else:
        factor = _rectification(length, longest) * correction**0.5 if rectified else 1.0
    return learning_rate * factor / (1 - beta1**step), rectified  # (6), (7)


def _rectification(length: Number, longest: float) -> Number:
    # r = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))                          (5)
    return ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5


class RAdam(FlatOptimizer):
    """Adam that does not divide by its second mean before that has seen enough gradients to be trusted.

    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020, algorithm 2. Twin of
    torch.optim.RAdam: same arguments without `foreach`, `capturable` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        betas: decay of the two means from step to step, from 0 up to below 1.
        eps: added to the root of the second mean.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        decoupled_weight_decay: shrink parameters by lr * weight_decay instead, as AdamW does.
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
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_radam(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least_zero("weight_decay value", group["weight_decay"])

    def state_names(self, group: Options) -> Sequence[str]:
        return ("exp_avg", "exp_avg_sq")

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        beta1, beta2 = group["betas"]
        return radam_step_sizes(number(group["lr"]), beta1, beta2, counted_(scalars[0]))

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        (exp_avg, exp_avg_sq), (beta1, beta2) = tensors, group["betas"]
        return radam_direction(gradient, exp_avg, exp_avg_sq, step_sizes[1], beta1, beta2, group["eps"], out)
