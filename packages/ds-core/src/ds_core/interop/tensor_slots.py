"""The slots in which a layer keeps its tensors, and swapping what is in them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import is_layer

# An object, a list or a dict, and the attribute, index or key under which it has a tensor.
TensorSlot = tuple[Any, Any]

_INSIDE = (list, tuple, dict, torch.nn.Module)


def find_tensors(owner: Any, found: dict[int, list[TensorSlot]], seen: set[int]) -> None:
    """Add to `found` every slot of a tensor below `owner` that can be given another one, by the tensor's `id`."""
    seen.add(id(owner))
    items = enumerate(owner) if isinstance(owner, (list, tuple)) else _namespace(owner).items()
    for key, value in items:
        if isinstance(value, Tensor):
            if not isinstance(owner, tuple):
                found.setdefault(id(value), []).append((owner, key))
        elif id(value) not in seen and (isinstance(value, _INSIDE) or is_layer(value)):
            find_tensors(value, found, seen)


def _namespace(owner: Any) -> Any:
    return owner if isinstance(owner, (list, dict)) else getattr(owner, "__dict__", {})


def swap_tensors(slots: list[list[TensorSlot]], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Put each tensor into its slots, of which a tied weight has several. Returns what was there."""
    before = []
    for same, tensor in zip(slots, tensors, strict=True):
        before.append(_namespace(same[0][0])[same[0][1]])
        for owner, key in same:
            _namespace(owner)[key] = tensor
    return before


@contextmanager
def swapped_tensors(slots: list[list[TensorSlot]], tensors: Sequence[Tensor]) -> Iterator[None]:
    """`swap_tensors` for as long as the block runs."""
    before = swap_tensors(slots, tensors)
    try:
        yield
    finally:
        swap_tensors(slots, before)
