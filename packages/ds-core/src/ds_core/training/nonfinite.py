"""Where a step first becomes infinite or NaN: it is run again with every layer watched."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ds_core.engine.nested_values import leaves
from ds_core.engine.trace import describe
from ds_core.training.gradients import Pair, backpropagate
from ds_core.training.state_json import all_finite


class _FoundError(Exception):
    """Ends the repeated step; the message says where."""


def first_nonfinite(model: Any, criterion: Any, batches: Sequence[Pair], denominator: Any = None) -> str:
    """Repeat a step on its micro-batches, eagerly, and say what in it is the first that is not finite.

    `denominator` is what the step was given; see `backpropagate`.

    The model's weights and PyTorch's generators must be as they were before the step;
    gradients are added to, nothing else changes.
    """
    for inputs, _ in batches:
        if not all_finite(_tensors(inputs)):
            return "the inputs of the model are not finite"
    spoiled = [name for name, tensor in model.named_parameters() if not all_finite([tensor])]
    weights = f" (weights that are not finite: {', '.join(spoiled[:3])})" if spoiled else ""
    try:
        with _watched(model, criterion):
            backpropagate(model, criterion, batches, denominator)
    except _FoundError as found:
        return f"{found}{weights}"
    if not all_finite(tensor.grad for tensor in model.parameters() if tensor.grad is not None):
        return f"a gradient is not finite once those of all micro-batches are added{weights}"
    return f"repeated eagerly, every output and every gradient is finite{weights}"


@contextmanager
def _watched(model: Any, criterion: Any) -> Iterator[None]:
    """Every layer's forward and backward look at what they return. Inner layers end first, and are named first."""
    layers = [(f"{name or 'the model'} ({describe(layer)})", layer) for name, layer in model.named_modules()]
    try:
        for name, layer in layers:
            layer.forward = _checked(layer.forward, f"the first layer whose output is not finite is {name}", None)
            layer.backward = _checked(
                layer.backward, f"every output is finite, the first gradient that is not is that of {name}", layer
            )
        criterion.forward = _checked(
            criterion.forward, f"every layer's output is finite, the loss {describe(criterion)} is not", None
        )
        criterion.backward = _checked(
            criterion.backward, f"the loss is finite, the gradient of {describe(criterion)} is not", None
        )
        yield
    finally:
        for layer in (*(layer for _, layer in layers), criterion):
            layer.__dict__.pop("forward", None)
            layer.__dict__.pop("backward", None)


def _checked(function: Callable[..., Any], where: str, owner: Any) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        own = [] if owner is None else [tensor.grad for tensor in _own(owner) if tensor.grad is not None]
        if not all_finite([*_tensors(result), *own]):
            raise _FoundError(where)
        return result

    return run


def _own(layer: Any) -> Iterator[Tensor]:
    named = getattr(layer, "named_parameters", None)
    return (tensor for _, tensor in named(recurse=False)) if named is not None else iter(layer.parameters())


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in leaves(value) if isinstance(leaf, Tensor))
