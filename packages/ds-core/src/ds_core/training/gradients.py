"""Forward, loss and backward over the micro-batches of one step, by the handwritten engine."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.trace import record

Pair = tuple[Any, Any]  # (inputs, target)


def backpropagate(
    model: Any, criterion: Any, batches: Sequence[Pair], weights: Sequence[float] | Tensor | None = None
) -> Tensor:
    """Add the gradient of the mean loss over the micro-batches to every parameter's `.grad`.

    Equal micro-batches give what one batch of all of them would: L = 1/N sum_i L_i,
    so each loss goes back with the upstream gradient 1/N.

    Args:
        model: called with the inputs (a tuple being several); its backward with `criterion.backward()`.
        batches: N pairs (inputs, target).
        weights: N numbers w_i for L = sum_i w_i L_i instead; a tensor where this is compiled.

    Returns:
        The loss L, a scalar tensor; with weights in float64.
    """
    # the compiler sees through a cache, and warns of it
    takes = _takes_input_gradient if torch.compiler.is_compiling() else _known_to_take_input_gradient
    total = None
    for number, (inputs, target) in enumerate(batches):
        with record():
            loss = criterion.forward(call(model, inputs), target)
            if weights is not None:
                gradient = criterion.backward((torch.ones_like(loss) * weights[number]).to(loss.dtype))
                loss = loss.double() * weights[number]
            elif len(batches) == 1:
                gradient = criterion.backward()
            else:
                gradient = criterion.backward(torch.full_like(loss, 1 / len(batches)))
            gradients = gradient if isinstance(gradient, tuple) else (gradient,)
            if takes(type(model).backward):
                model.backward(*gradients, input_gradient=False)
            else:
                model.backward(*gradients)
        total = loss if total is None else total + loss
    if total is None:
        raise ValueError("a step needs at least one batch")
    mean: Tensor = total / (len(batches) if weights is None else 1)
    return mean


def call(model: Any, inputs: Any) -> Any:
    """The model's output, a tuple of inputs being several arguments."""
    return model.forward(*inputs) if isinstance(inputs, tuple) else model.forward(inputs)


def _takes_input_gradient(backward: Callable[..., Any]) -> bool:
    arguments = inspect.signature(backward).parameters.values()
    return any(a.name == "input_gradient" or a.kind is inspect.Parameter.VAR_KEYWORD for a in arguments)


_known_to_take_input_gradient = functools.cache(_takes_input_gradient)
