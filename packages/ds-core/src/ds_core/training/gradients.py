"""Forward, loss and backward over the micro-batches of one step, by the handwritten engine."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.trace import record
from ds_core.losses.denominator import backward_part, denominator_of, forward_part, total
from ds_core.protocols import takes_input_gradient

Pair = tuple[Any, Any]  # (inputs, target)


def backpropagate(model: Any, criterion: Any, batches: Sequence[Pair], denominator: Any = None) -> Tensor:
    """Add the gradient of the loss over all micro-batches to every parameter's `.grad`, as if they were one batch.

    Each micro-batch counts by what it holds (rows, targets, their weights): docs/denominator.md.

    Args:
        model: called with the inputs (a tuple being several); its backward with `criterion.backward()`.
        batches: pairs (inputs, target).
        denominator: what the loss is divided by, as `step_denominator` gives it; to be given where the step has other
            micro-batches besides these. One micro-batch alone needs none.

    Returns:
        The loss, a scalar tensor; in float64 if it is a sum over micro-batches, or a share.

    Raises:
        ValueError: there is no micro-batch.
    """
    if len(batches) == 0:
        raise ValueError("a step needs at least one batch")
    whole = len(batches) == 1 and denominator is None
    if denominator is None and not whole:
        denominator = step_denominator(criterion, batches)
    losses = []
    for inputs, target in batches:
        with record():
            part = forward_part(criterion, (call(model, inputs),), inputs, target, denominator)
            gradient = backward_part(criterion, None, inputs, target, denominator, part)
            gradients = gradient if isinstance(gradient, tuple) else (gradient,)
            if takes_input_gradient(model.backward):
                model.backward(*gradients, input_gradient=False)
            else:
                model.backward(*gradients)
        losses.append(part if whole else part.double())
    return functools.reduce(torch.add, losses)  # L = sum_m S_m / D                           (3) of denominator.md


def step_denominator(criterion: Any, batches: Sequence[Pair]) -> Any:
    """What the loss over all these micro-batches together is divided by: tensors, or None; see `denominator_of`."""
    return total([denominator_of(criterion, inputs, target) for inputs, target in batches])


def call(model: Any, inputs: Any) -> Any:
    """The model's output, a tuple of inputs being several arguments."""
    return model.forward(*inputs) if isinstance(inputs, tuple) else model.forward(inputs)
