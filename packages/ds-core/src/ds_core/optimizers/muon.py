"""Muon. Theory: docs/muon.md."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ds_core.optimizers.clipping import total_norm
from ds_core.optimizers.optimizer import BaseOptimizer
from ds_core.optimizers.parameter_groups import Parameters
from ds_core.optimizers.update_rule import Number, Options, State, move_
from ds_core.speed.precision import widened, without_autocast

# R = rows of the matrix, C = columns


def plain_muon(parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
    """One step for one matrix, g being its effective gradient. There is no faster form: the products are the work."""
    g, b, mu = gradient, state["momentum_buffer"], group["momentum"]
    b.lerp_(g, 1 - mu)  # b = mu b + (1 - mu) g                                                         (1)
    mean = torch.lerp(g, b, mu) if group["nesterov"] else b  # B = (1 - mu) g + mu b, or b              (2)
    x = orthogonalized(mean, group["ns_coefficients"], group["ns_steps"], group["eps"])
    # float32 at least before it is multiplied: a product in bfloat16 would be rounded once more
    d = widened(x.to(g.dtype)) * muon_factor(group["adjust_lr_fn"], *g.shape)
    move_(parameter, (d, None), group["lr"])  # (4) of update_rule.md


@without_autocast
def orthogonalized(matrix: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """(R, C) with the singular vectors of `matrix` (R, C) and singular values near 1, in bfloat16.

    Args:
        coefficients: a, b and c of the polynomial a s + b s^3 + c s^5, which each step applies to all singular values.
        eps: the least norm to divide by.
    """
    a, b, c = coefficients
    x = matrix.to(torch.bfloat16)
    norm = total_norm([x], 2.0).to(torch.bfloat16)  # summed in float32
    tall = matrix.shape[0] > matrix.shape[1]
    x = (x.t() if tall else x) / torch.clamp_min(norm, eps)  # X = B / ||B||, wider than high           (3)
    for _ in range(steps):
        gram = torch.mm(x, x.t())  # A = X X^T                                                          (4)
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)  # b A + c A^2                          (5)
        x = torch.addmm(x, factor, x, beta=a)  # X = a X + (b A + c A^2) X                              (6)
    return x.t() if tall else x


def muon_factor(adjust_lr_fn: str | None, rows: int, columns: int) -> float:
    """The factor by which a matrix's step is lengthened."""
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))  # f = sqrt(max(R, C)) / 5                           (8)
    return math.sqrt(max(1.0, rows / max(1, columns)))  # f = sqrt(max(1, R / C))                       (7)


class Muon(BaseOptimizer):
    """Momentum whose steps are made orthogonal, so that all directions in which a matrix can act change alike.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Liu et al., "Muon is Scalable for
    LLM Training", 2025, for decay and `match_rms_adamw`. Twin of torch.optim.Muon (PyTorch from 2.9 on): same
    arguments, same state. For the matrices of hidden layers; what else a model has is given to another optimizer.

    Args:
        params: matrices, or (name, matrix) pairs, or dicts with "params" and options of their own.
        lr: learning rate; a tensor may be changed in place between steps, also of a compiled step.
        weight_decay: lambda, decoupled: parameters shrink by lr * weight_decay a step.
        momentum: mu, decay of the mean of gradients from step to step.
        nesterov: look one step of momentum ahead.
        ns_coefficients: a, b and c of the polynomial that is applied to the singular values.
        eps: the least norm that a matrix is divided by.
        ns_steps: how many times the polynomial is applied, below 100.
        adjust_lr_fn: how the step depends on the shape: "original" (as None), or "match_rms_adamw", with which
            learning rates and decays found for AdamW serve.

    Raises:
        ValueError: a parameter that is no matrix, a negative or NaN option, other than 3 coefficients, an unknown
            `adjust_lr_fn`, no parameters, one twice, a complex one.
        TypeError: `params` is a single tensor, or holds something else than tensors.
    """

    fixed: ClassVar = {"decoupled_weight_decay": True}

    def __init__(
        self,
        params: Parameters,
        lr: Number = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            **self.fixed,
        }
        super().__init__(params, defaults)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Options) -> None:
        plain_muon(parameter, gradient, state, group)

    def check(self, group: Options) -> None:
        lr = group["lr"]
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        values = {"Learning rate": lr, "momentum": group["momentum"], "weight decay": group["weight_decay"]}
        for name, value in {**values, "epsilon": group["eps"], "ns_steps": group["ns_steps"]}.items():
            if not value >= 0:
                raise ValueError(f"{name} should be >= 0 but is: {value}")
        if group["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(group["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {group['adjust_lr_fn']} is not supported")
        for parameter in group.get("params", ()):
            if parameter.dim() != 2:
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {parameter.size()}"
                )

    def state_names(self, group: Options) -> Sequence[str]:
        return ("momentum_buffer",)
