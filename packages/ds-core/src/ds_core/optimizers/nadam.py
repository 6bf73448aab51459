"""NAdam. Theory: docs/nadam.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_betas, check_learning_rate
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


def plain_nadam(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient: algorithm 2 of the paper."""
    g, (beta1, beta2), psi = gradient, group["betas"], group["momentum_decay"]
    t = counted_(state["step"])  # t = t + 1
    m = state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * g  # (1)
    v = state["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - beta2) * g**2  # (2)
    mu, mu_next = (beta1 * (1 - 0.96 ** (s * psi) / 2) for s in (t, t + 1))  # (3)
    product = state["mu_product"].mul_(mu).item()  # P = P mu, kept in float32                          (4)
    ahead = (1 - mu) * g / (1 - product) + mu_next * m / (1 - product * mu_next)
    parameter -= group["lr"] * ahead / (torch.sqrt(v / (1 - beta2**t)) + group["eps"])  # (5)


# The fast form: all corrections are numbers, computed once a step for all parameters; the means are updated in place.
def nadam_direction(
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    share: Number,
    beta1: float,
    beta2: float,
    epsilon: Number,
    out: Tensor | None = None,
) -> Direction:
    """d = (g + k m) / (sqrt(v) + epsilon), all tensors of one shape; updates the means in place.

    Args:
        share: k, the weight of the mean beside the gradient.
        out: memory to work in, may be `gradient`.
    """
    exp_avg.lerp_(gradient, 1 - beta1)  # m = beta1 m + (1 - beta1) g                                   (1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2  (2)
    if isinstance(share, Tensor):
        ahead = torch.add(gradient, exp_avg * share, out=out)  # g + k m
    else:
        ahead = torch.add(gradient, exp_avg, alpha=share, out=out)  # in one pass
    return quotient(ahead, torch.sqrt(exp_avg_sq).add_(epsilon), out)  # d = (g + k m) / (sqrt(v) + epsilon)  (6)


def nadam_momentum(beta1: float, momentum_decay: float, step: Number) -> Number:
    """mu_t, the momentum of step t, which grows from about beta1 / 2 to beta1."""
    return beta1 * (1 - 0.5 * 0.96 ** (step * momentum_decay))  # mu_t = beta1 (1 - 0.96^(t psi) / 2)   (3)


def nadam_step_sizes(
    learning_rate: Number, mu: Number, mu_next: Number, mu_product: Number, beta2: float, eps: float, step: Number
) -> tuple[Number, Number, Number]:
    """r, k and epsilon with c = sqrt(1 - beta2^t), t = step and P = mu_product = mu_1 ... mu_t."""
    correction = (1 - beta2**step) ** 0.5
    size = learning_rate * correction * (1 - mu) / (1 - mu_product)  # r = lr c (1 - mu) / (1 - P)      (7)
    # k = mu' (1 - P) / ((1 - P mu') (1 - mu))                                                          (8)
    share = mu_next * (1 - mu_product) / ((1 - mu_product * mu_next) * (1 - mu))
    return size, share, eps * correction  # epsilon = eps c                                             (9)


class NAdam(FlatOptimizer):
    """Adam that looks one step of momentum ahead, as Nesterov's form of momentum does.

    Dozat, "Incorporating Nesterov Momentum into Adam", 2016, algorithm 2. Twin of torch.optim.NAdam: same arguments
    without `foreach`, `capturable` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        betas: decay of the two means from step to step, from 0 up to below 1.
        eps: added to the root of the second mean.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        momentum_decay: psi, how fast the momentum grows from beta1 / 2 to beta1.
        decoupled_weight_decay: shrink parameters by lr * weight_decay instead, as AdamW does.
        maximize: ascend instead of descend.
        flat: update small parameters together (docs/flat_buffers.md).

    Raises:
        ValueError: a negative or NaN option, a beta outside [0, 1), no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    scalars: ClassVar = {"step": 0.0, "mu_product": 1.0}

    def __init__(
        self,
        params: Parameters,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_nadam(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("epsilon value", group["eps"])
        check_betas(group["betas"])
        check_at_least_zero("weight_decay value", group["weight_decay"])
        check_at_least_zero("momentum_decay value", group["momentum_decay"])

    def state_names(self, group: Options) -> Sequence[str]:
        return ("exp_avg", "exp_avg_sq")

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        (beta1, beta2), (count, mu_product) = group["betas"], scalars
        step = counted_(count)
        mu = nadam_momentum(beta1, group["momentum_decay"], step)
        mu_next = nadam_momentum(beta1, group["momentum_decay"], step + 1)
        mu_product.mul_(mu.to(mu_product) if isinstance(mu, Tensor) else mu)  # P = P mu, rounded to float32  (4)
        product = number(mu_product.double())
        return nadam_step_sizes(number(group["lr"]), mu, mu_next, product, beta2, group["eps"], step)

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        (exp_avg, exp_avg_sq), (_, share, epsilon) = tensors, step_sizes
        beta1, beta2 = group["betas"]
        return nadam_direction(gradient, exp_avg, exp_avg_sq, share, beta1, beta2, epsilon, out)
