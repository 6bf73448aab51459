"""Nested values: what layers take, return and keep is tensors in tuples, lists, dicts and dataclasses."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor


def leaves(value: Any) -> Iterator[Any]:
    """Everything in `value` that is no container, in order."""
    items = items_of(value)
    if items is None:
        yield value
    else:
        for item in items:
            yield from leaves(item)


def map_leaves(change: Callable[[Any], Any], value: Any) -> Any:
    """The same structure with `change(leaf)` in place of each leaf."""
    items = items_of(value)
    if items is None:
        return change(value)
    return rebuild(value, [map_leaves(change, item) for item in items])


def pair_leaves(value: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """Each leaf of `value` with what `other` has there. None in `other`, or its end, stands for all that is missing.

    Raises:
        TypeError: `other` is built differently.
    """
    items = items_of(value)
    if items is None:
        yield value, other
        return
    others = [] if other is None else items_of(other)
    if isinstance(value, dict) and isinstance(other, dict) and set(other) <= set(value):
        others = [other.get(key) for key in value]
    if others is None or len(others) > len(items):
        given = f"a {type(other).__name__}" + ("" if others is None else f" of {len(others)}")
        raise TypeError(f"gradients for a {type(value).__name__} of {len(items)}: given {given}")
    for item, beside in zip(items, [*others, *[None] * (len(items) - len(others))], strict=True):
        yield from pair_leaves(item, beside)


def none_if_zero(gradient: Any) -> Any:
    """None for every part that holds nothing but None."""
    if all(leaf is None for leaf in leaves(gradient)):
        return None
    return rebuild(gradient, [none_if_zero(item) for item in items_of(gradient) or []])


class Slot:
    """Stands in a structure where a tensor was."""

    def __init__(self, index: int, differentiable: bool) -> None:
        self.index = index
        self.differentiable = differentiable


def take_tensors(value: Any) -> tuple[Any, list[Tensor]]:
    """The structure with a `Slot` in place of each tensor, and the tensors."""
    tensors: list[Tensor] = []

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        tensors.append(leaf)
        return Slot(len(tensors) - 1, leaf.is_floating_point())

    return map_leaves(take, value), tensors


def put_tensors(value: Any, tensors: Sequence[Tensor | None]) -> Any:
    """Undo `take_tensors`, with these tensors in the slots."""
    return map_leaves(lambda leaf: tensors[leaf.index] if isinstance(leaf, Slot) else leaf, value)


def rebuild(value: Any, items: list[Any]) -> Any:
    """A container built as `value` is, of other items; a leaf stays what it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **dict(zip(field_names(value), items, strict=True)))
    if isinstance(value, dict):
        return dict(zip(value, items, strict=True))
    if items_of(value) is None:
        return value
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def items_of(value: Any) -> list[Any] | None:
    """What a container holds; None for a leaf. A torch.Size is a leaf; what a dataclass computes is passed over."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, name) for name in field_names(value)]
    if isinstance(value, dict):
        return list(value.values())
    if type(value) in (tuple, list) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return list(value)
    return None


def field_names(value: Any) -> list[str]:
    """The fields of a dataclass that its constructor takes."""
    return [field.name for field in dataclasses.fields(value) if field.init]
