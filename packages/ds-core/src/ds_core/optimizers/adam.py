"""Adam and AdamW. Theory: docs/adam.md."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.flat_optimizer import FlatOptimizer
from ds_core.optimizers.parameter_groups import Parameters, check_at_least_zero, check_betas, check_learning_rate
from ds_core.optimizers.update_rule import Direction, Number, Options, State, StepSizes, Tensors, counted_, number


def plain_adam(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one parameter, g being its effective gradient: the algorithm as the paper writes it."""
    g, (beta1, beta2) = gradient, _betas(group)
    t = counted_(state["step"])  # t = t + 1
    m = state["exp_avg"] = beta1 * state["exp_avg"] + (1 - beta1) * g  # (1)
    v = state["exp_avg_sq"] = beta2 * state["exp_avg_sq"] + (1 - beta2) * g**2  # (2)
    if group["amsgrad"]:
        v = state["max_exp_avg_sq"] = torch.maximum(state["max_exp_avg_sq"], v)  # (3)
    m_hat = m / (1 - beta1**t)
    v_hat = v / (1 - beta2**t)
    parameter -= group["lr"] * m_hat / (torch.sqrt(v_hat) + group["eps"])  # (4)


# The fast form: both corrections are numbers, computed once a step for all parameters; the means are updated in place;
# the base class divides and moves in one operation, and many small parameters by one call.
def adam_direction(
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    max_exp_avg_sq: Tensor | None,
    beta1: float,
    beta2: float,
    epsilon: Number,
    out: Tensor | None = None,
) -> Direction:
    """d = m / (sqrt(v) + epsilon), all tensors of one shape; updates the means in place. `out` may be `gradient`."""
    exp_avg.lerp_(gradient, 1 - beta1)  # m = beta1 m + (1 - beta1) g                                   (1)
    exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)  # v = beta2 v + (1 - beta2) g^2  (2)
    if max_exp_avg_sq is not None:
        exp_avg_sq = max_exp_avg_sq.copy_(torch.maximum(max_exp_avg_sq, exp_avg_sq))  # v_max = max(v_max, v)  (3)
    return exp_avg, torch.sqrt(exp_avg_sq, out=out).add_(epsilon)  # d = m / (sqrt(v) + epsilon)        (5)


def adam_step_sizes(
    learning_rate: Number, beta1: float, beta2: float, eps: float, step: Number
) -> tuple[Number, Number]:
    """r = lr c / (1 - beta1^t) and epsilon = eps c with c = sqrt(1 - beta2^t) and t = step."""
    correction = (1 - beta2**step) ** 0.5
    return learning_rate * correction / (1 - beta1**step), eps * correction  # (6), (7)


class Adam(FlatOptimizer):
    """Steps of one size for every parameter, set by the running means of its gradient and squared gradient.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1. Twin of torch.optim.Adam:
    same arguments without `foreach`, `fused`, `capturable` and `differentiable`, same state.

    Args:
        params: tensors, or (name, tensor) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        betas: decay of the two means from step to step, from 0 up to below 1.
        eps: added to the root of the second mean.
        weight_decay: lambda, added as lambda * parameter to the gradient.
        amsgrad: divide by the largest second mean so far (Reddi et al., "On the Convergence of Adam and Beyond", 2018).
        maximize: ascend instead of descend.
        decoupled_weight_decay: shrink parameters by lr * weight_decay instead, as AdamW does.
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
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        flat: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, flat=flat)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_adam(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        check_learning_rate(group["lr"])
        check_at_least_zero("epsilon value", group["eps"])
        check_at_least_zero("weight_decay value", group["weight_decay"])
        betas = group["betas"]
        if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
            raise ValueError("betas must be either both floats or both Tensors")
        for index, beta in enumerate(betas):
            if isinstance(beta, Tensor) and beta.numel() != 1:
                raise ValueError(f"Tensor betas[{index}] must be 1-element")
        check_betas(betas)

    def state_names(self, group: Options) -> Sequence[str]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")

    def step_sizes(self, group: Options, scalars: Tensors) -> StepSizes:
        beta1, beta2 = _betas(group)
        return adam_step_sizes(number(group["lr"]), beta1, beta2, group["eps"], counted_(scalars[0]))

    def direction(
        self, gradient: Tensor, tensors: Tensors, step_sizes: StepSizes, group: Options, first: bool, out: Tensor | None
    ) -> Direction:
        beta1, beta2 = _betas(group)
        exp_avg, exp_avg_sq, *largest = tensors
        return adam_direction(
            gradient, exp_avg, exp_avg_sq, largest[0] if largest else None, beta1, beta2, step_sizes[1], out
        )


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters and leaves the means of the gradient alone.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    Twin of torch.optim.AdamW; arguments and errors as for `Adam`.
    """

    fixed: ClassVar = {"decoupled_weight_decay": True}  # Adam's state may be loaded, and AdamW stays AdamW

    def __init__(
        self,
        params: Parameters,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        flat: bool = True,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            flat=flat,
        )


def _betas(group: Options) -> tuple[float, float]:
    beta1, beta2 = group["betas"]
    return float(beta1), float(beta2)
