"""What all optimizers do alike: weight decay, the sign, and the move itself. Theory: docs/update_rule.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.speed.plain import fast_form

Number = float | Tensor  # a Python number, or a tensor of no dimensions
Tensors = Sequence[Tensor]
StepSizes = tuple[Number, ...]  # the size of a step, and other numbers that change from step to step
Direction = tuple[Tensor, Tensor | None]  # numerator and denominator, None being 1: divided in the move, in one pass
Options = Mapping[str, Any]  # of a parameter group: lr, weight_decay, maximize, decoupled_weight_decay ...
State = dict[str, Any]  # what is kept for one parameter: tensors and numbers, by name


def plain_effective_gradient(gradient: Tensor, parameter: Tensor, group: Options) -> Tensor:
    """g = +-gradient + weight_decay * parameter, the gradient that the optimizer follows."""
    g = -gradient if group.get("maximize", False) else gradient  # (1)
    return g + group["weight_decay"] * parameter if _coupled_decay(group) else g  # (2)


def decay_(parameter: Tensor, group: Options) -> None:
    """theta = (1 - lr * weight_decay) theta, in place, if decay is decoupled."""
    if _decoupled_decay(group):
        parameter.mul_(1 - number(group["lr"]) * group["weight_decay"])  # (3)


def plain_move_(parameter: Tensor, direction: Direction, step_size: Number) -> Tensor:
    """theta = theta - step_size * direction, in place."""
    numerator, denominator = direction
    parameter -= step_size * (numerator if denominator is None else numerator / denominator)  # (4)
    return parameter


# The same in as few passes over memory as can be, for one tensor and for a list of tensors in one call. `out` is memory
# for the result. Division and move are one operation if the size of the step is a Python number.
@fast_form(plain_effective_gradient)
def effective_gradient(gradient: Tensor, parameter: Tensor, group: Options, out: Tensor | None = None) -> Tensor:
    """g = +-gradient + weight_decay * parameter; `gradient` itself if there is neither sign nor decay."""
    if group.get("maximize", False):
        gradient = torch.neg(gradient, out=out)  # uphill is downhill on the negative                   (1)
    if _coupled_decay(group):
        gradient = torch.add(gradient, parameter, alpha=group["weight_decay"], out=out)  #              (2)
    return gradient


def effective_gradients_(gradients: list[Tensor], parameters: list[Tensor], group: Options) -> None:
    """`effective_gradient` of many, in place."""
    if group.get("maximize", False):
        torch._foreach_neg_(gradients)  # (1)
    if _coupled_decay(group):
        torch._foreach_add_(gradients, parameters, alpha=group["weight_decay"])  # (2)


@fast_form(plain_move_)
def move_(parameter: Tensor, direction: Direction, step_size: Number) -> Tensor:
    """theta = theta - step_size * direction, in place."""
    numerator, denominator = direction
    if isinstance(step_size, Tensor):
        return parameter.sub_((numerator if denominator is None else numerator / denominator) * step_size)  # (4)
    if denominator is None:
        return parameter.add_(numerator, alpha=-step_size)
    return parameter.addcdiv_(numerator, denominator, value=-step_size)


def decay_all_(parameters: list[Tensor], group: Options) -> None:
    """`decay_` of many."""
    if _decoupled_decay(group):
        factor = 1 - number(group["lr"]) * group["weight_decay"]
        torch._foreach_mul_(parameters, _cheap(factor, parameters[0].device))  # (3)


def move_all_(
    parameters: list[Tensor], numerators: list[Tensor], denominators: list[Tensor] | None, step_size: Number
) -> None:
    """`move_` of many, each by a direction of its own."""
    if isinstance(step_size, Tensor):
        directions = numerators if denominators is None else torch._foreach_div(numerators, denominators)
        torch._foreach_sub_(parameters, torch._foreach_mul(directions, step_size))  # (4)
    elif denominators is None:
        torch._foreach_add_(parameters, numerators, alpha=-step_size)
    else:
        torch._foreach_addcdiv_(parameters, numerators, denominators, -step_size)


def quotient(numerator: Tensor, denominator: Tensor, out: Tensor | None) -> Direction:
    """numerator / denominator as a direction, divided at once if `numerator` is `out`, the memory to work in.

    A pack has its views of that memory at hand; it would have to cut a new denominator into views, which is slower.
    In all other cases the move divides, in one pass.
    """
    if numerator is out:
        return torch.div(numerator, denominator, out=out), None
    return numerator, denominator


def number(value: Number) -> Number:
    """`value` as a Python number, except on a GPU, which it would wait for, and while compiling.

    A compiled step is compiled again when a Python number in it changes; a tensor is one of its inputs.
    """
    if not isinstance(value, Tensor):
        return value
    if torch.compiler.is_compiling() or value.device.type != "cpu":
        return value.reshape(())
    return value.item()


def counted_(step: Tensor) -> Number:
    """One more update: the new count, in float64 if it is a tensor, for powers of betas close to 1."""
    step.add_(1)
    return number(step.double())


def _cheap(factor: Number, device: torch.device) -> Number:
    """On a CPU `_foreach_` makes a tensor of a Python number anew for each parameter, at four times the cost."""
    return torch.tensor(factor, dtype=torch.float64) if isinstance(factor, float) and device.type == "cpu" else factor


def _coupled_decay(group: Options) -> bool:
    return bool(group.get("weight_decay", 0) != 0) and not group.get("decoupled_weight_decay", False)


def _decoupled_decay(group: Options) -> bool:
    return bool(group.get("weight_decay", 0) != 0) and bool(group.get("decoupled_weight_decay", False))
