"""Nested values: what layers take, return and keep is tensors in tuples, lists, dicts and dataclasses."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
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


def map_values(change: Callable[[Any], Any], value: Any, compute: bool = False) -> Any:
    """`map_leaves` by plain copies: no class checks or computes anything, what it has computed is changed likewise.

    Args:
        compute: let a dataclass compute anew, in its `__post_init__`, if that gives the very values it gives here: so
            autograd sees how they come about.
    """
    if not _is_plain_dataclass(value):
        items = items_of(value)
        return change(value) if items is None else rebuild(value, [map_values(change, x, compute) for x in items])
    held = {name: map_values(change, x, compute) for name, x in _attributes(value).items()}
    anew = _computed_anew(value, held) if compute else None
    return _plain_copy(value, held) if anew is None else anew


def map_gradients(change: Callable[[Any], Any], value: Any) -> Any:
    """A gradient for `value`, with `change(leaf)` for each leaf."""
    items = items_of(value)
    return change(value) if items is None else gradient_for(value, [map_gradients(change, item) for item in items])


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
        expected = type(value).__name__ + ("" if hasattr(value, "_fields") else f" of {len(items)}")
        raise TypeError(f"gradients for a {expected}: given {given}, expected a gradient built like the output")
    for item, beside in zip(items, [*others, *[None] * (len(items) - len(others))], strict=True):
        yield from pair_leaves(item, beside)


def none_if_zero(gradient: Any) -> Any:
    """None for every part that holds nothing but None."""
    if all(leaf is None for leaf in leaves(gradient)):
        return None
    items = items_of(gradient)
    return gradient if items is None else gradient_for(gradient, [none_if_zero(item) for item in items])


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
        return Slot(len(tensors) - 1, is_differentiable(leaf))

    return map_values(take, value), tensors


def put_tensors(value: Any, tensors: Sequence[Tensor | None], compute: bool = False) -> Any:
    """Undo `take_tensors`, with these tensors in the slots; `compute` as `map_values` has it."""
    return map_values(lambda leaf: tensors[leaf.index] if isinstance(leaf, Slot) else leaf, value, compute)


def is_differentiable(tensor: Tensor) -> bool:
    """Whether a tensor can have a gradient: a floating or a complex one."""
    return tensor.is_floating_point() or tensor.is_complex()


def rebuild(value: Any, items: list[Any]) -> Any:
    """A container built as `value` is, of other items; a leaf stays what it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **dict(zip(field_names(value), items, strict=True)))
    if isinstance(value, dict):
        return dict(zip(value, items, strict=True))
    if items_of(value) is None:
        return value
    # _make, because a class may want tensors (PyTorch's PackedSequence), and the items may be what stands for them
    return type(value)._make(items) if hasattr(value, "_fields") else type(value)(items)


def gradient_for(value: Any, items: list[Any]) -> Any:
    """The gradients `items` in a container built as `value` is; what a dataclass computes is None."""
    if not _is_plain_dataclass(value):
        return rebuild(value, items)
    named = zip(field_names(value), items, strict=True)
    return _plain_copy(value, {**dict.fromkeys(_attributes(value)), **dict(named)})


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


def _is_plain_dataclass(value: Any) -> bool:
    """A dataclass whose attributes are all that it holds; one that is a dict as well must be built by its class."""
    return dataclasses.is_dataclass(value) and not isinstance(value, (type, dict, list, tuple))


def _attributes(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, computed ones, too, and what else it has been given."""
    fields = {
        field.name: getattr(value, field.name) for field in dataclasses.fields(value) if hasattr(value, field.name)
    }
    return {**fields, **getattr(value, "__dict__", {})}


def _plain_copy(value: Any, attributes: dict[str, Any]) -> Any:
    copy = object.__new__(type(value))
    for name, attribute in attributes.items():
        object.__setattr__(copy, name, attribute)  # a frozen one, too
    return copy


def _computed_anew(value: Any, held: dict[str, Any]) -> Any:
    """What the class of `value` makes of the fields in `held`; None if it computes no tensor, or another thing."""
    given = {name: held[name] for name in field_names(value)}
    computed = [name for name in held if name not in given and any(isinstance(x, Tensor) for x in leaves(held[name]))]
    if not computed or not hasattr(value, "__post_init__"):
        return None
    try:
        anew = type(value)(**given)
    except (TypeError, ValueError):  # it takes more than its fields
        return None
    found = _attributes(anew)
    if found.keys() != held.keys() or any(found[name] is not given[name] for name in given):
        return None
    same = [_equal(x, y) for name in computed for x, y in zip(leaves(found[name]), leaves(held[name]), strict=False)]
    return anew if all(same) else None


def _equal(value: Any, other: Any) -> bool:
    if not isinstance(value, Tensor) or not isinstance(other, Tensor):
        return value is other
    return value.shape == other.shape and value.dtype == other.dtype and torch.equal(value, other)
