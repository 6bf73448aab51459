"""Which of a layer's arguments each gradient belongs to that its backward returned."""

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.attributes import is_layer
from ds_core.engine.nested_values import Slot, leaves, pair_leaves
from ds_core.engine.trace import describe
from ds_core.errors import ShapeError


def input_gradients(
    layer: Any, args: Any, kwargs: Any, returned: Any, needed: Sequence[bool], shapes: Sequence[torch.Size]
) -> list[Tensor | None]:
    """Sort what the layer's backward returned by the tensors of its inputs, by the structure rule.

    Args:
        layer: whose backward it was.
        args, kwargs: what its forward was called with, with a `Slot` in place of each tensor.
        returned: a gradient for each argument that can have one, in the order of forward's signature.
        needed: whether a gradient of the tensor is asked for, by the slots' indices; `shapes` likewise.

    Raises:
        TypeError: an argument requires a gradient and got none, or one of another structure; or there are too many.
        ShapeError: a gradient has another shape than its argument.
    """
    gradients: list[Tensor | None] = [None] * len(needed)
    if returned is None:
        return gradients
    wanted, given = _matched(layer, args, kwargs, returned)
    for index, (name, value) in enumerate(wanted):
        if index >= len(given):
            if any(isinstance(leaf, Slot) and needed[leaf.index] for leaf in leaves(value)):
                raise TypeError(
                    f"as_torch: the argument {_name(layer, args, kwargs, name)} of {describe(layer)} requires a "
                    "gradient, but the layer's backward gives none for it: detach it"
                )
            continue
        try:
            pairs = list(pair_leaves(value, given[index]))
        except TypeError as error:
            raise TypeError(
                f"as_torch: the argument {_name(layer, args, kwargs, name)} of {describe(layer)}: {error}"
            ) from None
        for leaf, gradient in pairs:
            if isinstance(leaf, Slot) and gradient is not None:
                if not isinstance(gradient, Tensor) or gradient.shape != shapes[leaf.index]:
                    found = tuple(gradient.shape) if isinstance(gradient, Tensor) else type(gradient).__name__
                    raise ShapeError(
                        f"as_torch: backward of {describe(layer)} gives {found} as the gradient of its argument "
                        f"{_name(layer, args, kwargs, name)}, expected {tuple(shapes[leaf.index])}"
                    )
                gradients[leaf.index] = gradient
    return gradients


def refuse_hidden(layer: Any, args: Any, kwargs: Any) -> None:
    """Refuse a tensor that requires a gradient inside an argument that is no container the bridge looks into.

    Raises:
        TypeError: there is one.
    """
    for leaf in leaves((args, kwargs)):
        if isinstance(leaf, (Slot, type, torch.nn.Module)) or is_layer(leaf):
            continue
        held = [*getattr(leaf, "__dict__", {}).values(), *(leaf if isinstance(leaf, _COLLECTIONS) else ())]
        if held and any(isinstance(x, Tensor) and x.requires_grad for x in leaves(held)):
            raise TypeError(
                f"as_torch: {describe(layer)} is given a {type(leaf).__name__} with a tensor in it that requires a "
                "gradient and would get none: pass a tuple, list, dict or dataclass, or detach the tensor"
            )


_COLLECTIONS = (list, tuple, set, frozenset, deque)

_Named = list[tuple[Any, Any]]  # a name, or a position whose name is looked up when an error asks for it, and the value


def _matched(layer: Any, args: Any, kwargs: Any, returned: Any) -> tuple[_Named, tuple[Any, ...]]:
    """The arguments that `returned` has gradients for, in order, and these gradients."""
    inputs: _Named = [*_in_order(layer, args, kwargs)] if kwargs else [*enumerate(args)]
    wanted = [pair for pair in inputs if _can_have_gradient(pair[1])]
    given = (returned,) if _of_one_argument(wanted, returned) else returned
    if len(given) <= len(wanted):
        return wanted, given
    # one for each argument, as autograd.Function has it: None for integers
    if len(given) == len(inputs) and all(
        gradient is None or value is None or _can_have_gradient(value)
        for (_, value), gradient in zip(inputs, given, strict=True)
    ):
        return inputs, given
    # LSTM(x), or LSTM(x, None), gives the gradients of its states, too
    inputs = [*_in_order(layer, args, kwargs, defaults=True)]
    candidates = [pair for pair in inputs if pair[1] is None or _can_have_gradient(pair[1])]
    if len(given) > len(candidates):
        names = ", ".join(str(name) for name, _ in candidates) or "none"
        raise TypeError(
            f"as_torch: backward of {describe(layer)} gives {len(given)} gradients, expected one for each of the "
            f"arguments that can have one: {names}"
        )
    return candidates, given


def _of_one_argument(wanted: _Named, returned: Any) -> bool:
    """Whether `returned` is the gradient of one argument, and not a tuple of one for each."""
    if not isinstance(returned, tuple):
        return True
    value = wanted[0][1] if len(wanted) == 1 else None
    # a gradient built as its argument is: a packed batch, whose layer gives the gradients of its states as well
    first_is_its = bool(returned) and type(returned[0]) is type(value) and type(value) not in (tuple, list)
    return len(wanted) == 1 and not isinstance(value, Slot) and not first_is_its


def _name(layer: Any, args: Any, kwargs: Any, name: Any) -> str:
    return str(_in_order(layer, args, kwargs)[name][0] if isinstance(name, int) else name)


def _in_order(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], defaults: bool = False
) -> list[tuple[str, Any]]:
    return in_order(signed(layer), args, kwargs, defaults)


def signed(layer: Any) -> Callable[..., Any]:
    """The function whose signature orders a layer's arguments; of the layer inside if they are handed on to it."""
    function: Callable[..., Any] = getattr(layer, "called_like", layer.forward)
    inside = getattr(layer, "layer", None)
    if is_layer(inside):
        kinds = {each.kind for each in inspect.signature(function).parameters.values()}
        if kinds == {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            return signed(inside)
    return function


def in_order(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], defaults: bool = False
) -> list[tuple[str, Any]]:
    """The arguments with their names, in the order of the function's signature, however they were passed."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):  # a forward written in C, or in a wrapper that hides its arguments
        return [(f"number {i + 1}", value) for i, value in enumerate(args)] + list(kwargs.items())
    if defaults:
        bound.apply_defaults()
    ordered: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            ordered += [(f"{name}[{i}]", item) for i, item in enumerate(value)]
        else:
            ordered += value.items() if kind is inspect.Parameter.VAR_KEYWORD else [(name, value)]
    return ordered


def _can_have_gradient(value: Any) -> bool:
    return any(isinstance(leaf, Slot) and leaf.differentiable for leaf in leaves(value))
