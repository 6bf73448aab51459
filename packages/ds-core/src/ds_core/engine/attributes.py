"""What stands in an attribute of a layer: another layer, several of them, or what would be lost there."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ds_core.errors import no_layer

# What most attributes are. Their names are not noted: the walk over a model, which every step takes, passes them by.
NEVER_LAYERS = frozenset({Tensor, str, int, float, bool, type(None), torch.dtype, torch.device, torch.Size})


def is_layer(value: Any) -> bool:
    """Whether `value` is a layer: an object with `forward`, `backward` and `parameters`. A class is not one."""
    if isinstance(value, (Tensor, str, int, float, type)):
        return False
    return all(callable(getattr(value, name, None)) for name in ("forward", "backward", "parameters"))


def layers_in(value: Any, name: str, owner: Any) -> list[tuple[str, Any]]:
    """The layer that `value` is, or those in a list, tuple or dict of any depth, named `name.0`, `name.key`.

    Raises:
        TypeError: a parameter among them, which nobody would find there; `owner` is who has the attribute.
    """
    if not isinstance(value, (list, tuple, dict)):
        return [(name, value)] if is_layer(value) else []
    found = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, Tensor):
            if item.requires_grad and item.is_leaf:
                raise TypeError(_parameter_in(value, f"{name}.{key}", owner))
        else:
            found += layers_in(item, f"{name}.{key}", owner)
    return found


def refuse_strangers(value: Any, name: str, owner: Any) -> None:
    """Raise TypeError for what has parameters and no backward, as a torch.nn module, and for parameters in a list."""
    if isinstance(value, (list, tuple, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            refuse_strangers(item, f"{name}.{key}", owner)
        layers_in(value, name, owner)
    elif hasattr(value, "named_parameters") and not is_layer(value):
        raise TypeError(f"{type(owner).__name__}.{name}: {no_layer(value)}")


def _parameter_in(container: Any, path: str, owner: Any) -> str:
    name = path.partition(".")[0]
    return (
        f"{type(owner).__name__}.{path}: a parameter in a {type(container).__name__} would be neither trained nor "
        f'saved: give it an attribute of its own, setattr(self, f"{name}_{{i}}", ...), or put it into a layer'
    )


def layer_attributes(owner: Any) -> Iterator[tuple[str, Any]]:
    """The layers among the attributes of `owner`, with their names; one in a list is named by its index, `blocks.0`."""
    for name in owner.__dict__.get("_may_hold_layers", ()):  # the compiler of torch 2.6 cannot go through `__dict__`
        yield from layers_in(owner.__dict__.get(name), name, owner)
