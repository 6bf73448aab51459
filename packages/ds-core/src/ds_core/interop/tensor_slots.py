"""The slots in which a layer keeps its tensors, and swapping what is in them, one thread after the other."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.attributes import is_layer

# An object, a list or a dict, and the attribute, index or key under which it has a tensor.
TensorSlot = tuple[Any, Any]

_INSIDE = (list, tuple, dict, torch.nn.Module)

# One for all layers: two wrappers may share a layer. Re-entrant: a layer may run another wrapped one, or checkpointing
# its forward again.
_turn = threading.RLock()
_depth = 0


@contextmanager
def turn() -> Iterator[bool]:
    """Let no other thread swap tensors while the block runs. Gives whether this thread had its turn already."""
    global _depth  # of the thread that has the lock
    with _turn:
        _depth += 1
        try:
            yield _depth > 1
        finally:
            _depth -= 1


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


def content(slot: TensorSlot) -> Any:
    """What is in the slot now."""
    return _namespace(slot[0])[slot[1]]


def put(slot: TensorSlot, value: Any) -> None:
    """Put `value` into the slot."""
    _namespace(slot[0])[slot[1]] = value


@contextmanager
def swapped_tensors(slots: Sequence[list[TensorSlot]], tensors: Sequence[Any]) -> Iterator[None]:
    """Each tensor in its slots, of which a tied weight has several, for as long as the block runs.

    Meanwhile every other thread that comes here waits. What the block itself puts into a slot stays there.
    """
    pairs = [(slot, tensor) for same, tensor in zip(slots, tensors, strict=True) for slot in same]
    with turn():
        before = [content(slot) for slot, _ in pairs]
        for slot, tensor in pairs:
            put(slot, tensor)
        try:
            yield
        finally:
            for (slot, tensor), old in zip(pairs, before, strict=True):
                if content(slot) is tensor:
                    put(slot, old)
