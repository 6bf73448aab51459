"""Inputs, outputs and gradients come as tensors inside tuples, lists, dicts and dataclasses: walk them by name."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.nested_values import field_names, items_of, map_leaves


def tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in `value` with its name: `y`, `y[1][0]`, `y.boxes`."""
    if isinstance(value, Tensor):
        yield name, value
    else:
        for key, item in _items(value):
            yield from tensors(item, name + key)


def floating_tensors(value: Any, name: str) -> list[tuple[str, Tensor]]:
    """The tensors of `value` that can have a gradient."""
    return [(path, tensor) for path, tensor in tensors(value, name) if tensor.is_floating_point()]


def transform(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same structure with `change` applied to each tensor."""
    return map_leaves(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, value)


def replace_tensor(value: Any, index: int, change: Callable[[Tensor], Any] | None) -> Any:
    """The same structure with `change` (or None) in place of tensor number `index`, counted from 0."""
    count = itertools.count()

    def replaced(tensor: Tensor) -> Any:
        if next(count) != index:
            return tensor
        return None if change is None else change(tensor)

    return transform(value, replaced)


def align(value: Any, gradient: Any, name: str) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Each floating tensor of `value` beside its gradient; None, anywhere in `gradient`, means zeros.

    Raises:
        ValueError: if `gradient` is not built as `value` is, or a gradient has another shape or dtype.
    """
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            return
        if gradient is not None:
            if not isinstance(gradient, Tensor):
                hint = ""
                if isinstance(gradient, tuple):
                    hint = "; if backward gives gradients of more inputs, such as a state, check it with these inputs"
                raise ValueError(
                    f"gradient of {name}: expected a tensor or None, given {type(gradient).__name__}{hint}"
                )
            if gradient.shape != value.shape or gradient.dtype != value.dtype:
                raise ValueError(
                    f"gradient of {name}: given {tuple(gradient.shape)} {gradient.dtype}, "
                    f"expected {tuple(value.shape)} {value.dtype}, as {name} itself"
                )
        yield name, value, gradient
    elif floating_tensors(value, name):
        items = _items(value)
        keys = [key for key, _ in items]
        given = dict.fromkeys(keys) if gradient is None else dict(_items(gradient))
        if not set(given) <= set(keys) or (isinstance(value, (tuple, list)) and len(given) != len(keys)):
            raise ValueError(f"gradient of {name}: expected the structure {outline(value)}, given {outline(gradient)}")
        for key, item in items:
            yield from align(item, given.get(key), name + key)


def outline(value: Any) -> str:
    """A structure in words for messages: `(Tensor(2, 3), None)`."""
    if isinstance(value, Tensor):
        return f"Tensor{tuple(value.shape)}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(outline(item) for item in value) + ("," if len(value) == 1 else "") + ")"
    return repr(value) if value is None else type(value).__name__


def scattered(tensor: Tensor) -> Tensor:
    """The same numbers in a memory layout that no `view` can flatten: dimensions reversed, every second number."""
    backwards = tuple(reversed(range(tensor.dim())))
    memory = torch.zeros(*(tensor.permute(backwards).shape), 2, dtype=tensor.dtype, device=tensor.device)
    view = memory[..., 1].permute(backwards)
    view.copy_(tensor)
    return view


def _items(value: Any) -> list[tuple[str, Any]]:
    """What a container holds, each with its index, key or field as it is written."""
    items = items_of(value) or []
    if isinstance(value, dict):
        keys = [f"[{key!r}]" for key in value]
    elif isinstance(value, (tuple, list)):
        keys = [f"[{index}]" for index in range(len(items))]
    else:
        keys = [f".{name}" for name in field_names(value)] if items else []
    return list(zip(keys, items, strict=True))
