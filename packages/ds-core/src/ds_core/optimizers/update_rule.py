"""What all optimizers do alike: weight decay, the sign, and the move itself. Theory: docs/update_rule.md.

Each rule is written twice, for one tensor and for a list of tensors in one call.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Number = float | Tensor  # a Python number, or a tensor of no dimensions
Sizes = tuple[Number, ...]  # the size of a step, and other numbers that change from step to step
Direction = tuple[Tensor, Tensor | None]  # numerator and denominator, None being 1: divided in the move, in one pass
Options = Mapping[str, Any]  # of a parameter group: lr, weight_decay, maximize, decoupled_weight_decay ...


def seen_gradient(gradient: Tensor, parameter: Tensor, group: Options, out: Tensor | None = None) -> Tensor:
    """g = +-gradient + weight_decay * parameter, what the optimizer takes for the gradient."""
    if group.get("maximize", False):
        gradient = torch.neg(gradient, out=out)  # uphill is downhill on the negative                   (1)
    if _coupled_decay(group):
        gradient = torch.add(gradient, parameter, alpha=group["weight_decay"], out=out)  #              (2)
    return gradient


def seen_gradients_(gradients: list[Tensor], parameters: list[Tensor], group: Options) -> None:
    """`seen_gradient` of many, in place."""
    if group.get("maximize", False):
        torch._foreach_neg_(gradients)  # (1)
    if _coupled_decay(group):
        torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])  # (2)


def quotient(numerator: Tensor, denominator: Tensor, out: Tensor | None) -> Direction:
    """numerator / denominator as a direction: divided here where `numerator` is `out`, memory to work in.

    Of that a pack has the parts at hand, of a denominator that is a new tensor it would have to cut them; elsewhere
    the move divides, in one pass.
    """
    if numerator is out:
        return torch.div(numerator, denominator, out=out), None
    return numerator, denominator


def move_(parameter: Tensor, direction: Direction, size: Number, group: Options) -> None:
    """parameter = (1 - lr * weight_decay) parameter - size * direction, in place; the decay only where decoupled."""
    if _decoupled_decay(group):
        parameter.mul_(1 - number(group["lr"]) * group["weight_decay"])  # (3)
    numerator, denominator = direction
    if isinstance(size, Tensor):
        parameter.sub_((numerator if denominator is None else numerator / denominator) * size)  # (4)
    elif denominator is None:
        parameter.add_(numerator, alpha=-size)
    else:
        parameter.addcdiv_(numerator, denominator, value=-size)


def move_all_(
    parameters: list[Tensor],
    numerators: list[Tensor],
    denominators: list[Tensor] | None,
    size: Number,
    group: Options,
) -> None:
    """`move_` of many, each by a direction of its own."""
    if _decoupled_decay(group):
        factor = 1 - number(group["lr"]) * group["weight_decay"]
        torch._foreach_mul_(parameters, _cheap(factor, parameters[0].device))  # (3)
    if isinstance(size, Tensor):
        directions = numerators if denominators is None else torch._foreach_div(numerators, denominators)
        torch._foreach_sub_(parameters, torch._foreach_mul(directions, size))  # (4)
    elif denominators is None:
        torch._foreach_add_(parameters, numerators, alpha=-size)
    else:
        torch._foreach_addcdiv_(parameters, numerators, denominators, -size)


def number(value: Number) -> Number:
    """`value` as a Python number, except on a GPU, where that would wait for it, and while compiling.

    A compiled step is compiled again when a Python number in it changes; a tensor is one of its inputs.
    """
    if not isinstance(value, Tensor):
        return value
    if torch.compiler.is_compiling() or value.device.type != "cpu":
        return value.reshape(())
    return value.item()


def counted_(step: Tensor) -> Number:
    """One more update: the new count, in float64 where it is a tensor, for powers of betas close to 1."""
    step.add_(1)
    return number(step.double())


def _cheap(factor: Number, device: torch.device) -> Number:
    """On a CPU `_foreach_` makes a tensor of a Python number anew for each parameter, at four times the cost."""
    return torch.tensor(factor, dtype=torch.float64) if isinstance(factor, float) and device.type == "cpu" else factor


def _coupled_decay(group: Options) -> bool:
    return bool(group["weight_decay"] != 0) and not group.get("decoupled_weight_decay", False)


def _decoupled_decay(group: Options) -> bool:
    return bool(group["weight_decay"] != 0) and bool(group.get("decoupled_weight_decay", False))
