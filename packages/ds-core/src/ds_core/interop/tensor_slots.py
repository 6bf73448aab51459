"""Where a layer keeps its tensors, and exchanging them for others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import is_layer

# a holder (an object, a list or a dict) and the attribute, index or key under which it holds a tensor
Place = tuple[Any, Any]


_INSIDE = (list, tuple, dict, torch.nn.Module)


def find_tensors(holder: Any, found: dict[int, list[Place]], seen: set[int]) -> None:
    """Every place below `holder` that holds a tensor and can be given another one, by the tensor's `id`."""
    seen.add(id(holder))
    items = enumerate(holder) if isinstance(holder, (list, tuple)) else _namespace(holder).items()
    for key, value in items:
        if isinstance(value, Tensor):
            if not isinstance(holder, tuple):
                found.setdefault(id(value), []).append((holder, key))
        elif id(value) not in seen and (isinstance(value, _INSIDE) or is_layer(value)):
            find_tensors(value, found, seen)


def _namespace(holder: Any) -> Any:
    return holder if isinstance(holder, (list, dict)) else getattr(holder, "__dict__", {})


def hold(places: list[list[Place]], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Put each tensor in its places; return what was there."""
    before = []
    for same, tensor in zip(places, tensors, strict=True):
        before.append(_namespace(same[0][0])[same[0][1]])
        for holder, key in same:
            _namespace(holder)[key] = tensor
    return before


@contextmanager
def holding(places: list[list[Place]], tensors: Sequence[Tensor]) -> Iterator[None]:
    before = hold(places, tensors)
    try:
        yield
    finally:
        hold(places, before)
