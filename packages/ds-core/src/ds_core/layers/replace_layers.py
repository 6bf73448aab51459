"""Layers of one kind replaced by others, wherever in a model they stand. Theory: docs/sync_batch_norm.md."""

from collections.abc import Callable
from typing import Any

from ds_core.engine.module import Module


def replace_layers(model: Any, kind: type | tuple[type, ...], convert: Callable[[Any], Any]) -> Any:
    """`model`, which is changed, with `convert(layer)` in place of each layer of `kind`; or `convert(model)` itself.

    A layer that stands in several places is converted once. Lists, tuples and dicts of layers are looked through.
    """
    return _replaced(model, kind, convert, {})


def _replaced(
    value: Any, kind: type | tuple[type, ...], convert: Callable[[Any], Any], done: dict[int, tuple[Any, Any]]
) -> Any:
    def replaced(item: Any) -> Any:
        return _replaced(item, kind, convert, done)

    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, kind):
        done[id(value)] = (value, convert(value))  # with the old one, lest its id be given to another
    elif isinstance(value, Module):
        done[id(value)] = (value, value)
        for name, child in list(vars(value).items()):
            new = replaced(child)
            if new is not child:
                setattr(value, name, new)
    elif isinstance(value, (list, dict)):
        done[id(value)] = (value, value)
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            value[key] = replaced(value[key])
    elif isinstance(value, tuple) and any(isinstance(item, (Module, list, tuple, dict)) for item in value):
        items = [replaced(item) for item in value]
        new = type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        done[id(value)] = (value, new)
    return done[id(value)][1] if id(value) in done else value
