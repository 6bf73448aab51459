"""The JSON of a checkpoint: nested state as JSON and named tensors, and back. Theory: docs/checkpoint.md."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# JSON has no tensors, tuples, keys that are not strings, infinities: each is a dict with one of these keys
_TENSOR, _TUPLE, _PAIRS, _FLOAT = "$tensor", "$tuple", "$pairs", "$float"
_MARKS = {_TENSOR, _TUPLE, _PAIRS, _FLOAT}


class StateEncoder:
    """Turns nested state into JSON and collects its tensors under dotted names. Tied weights are kept once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def encode(self, value: Any, name: str) -> Any:
        """`value` as JSON. Its tensors become `{"$tensor": name}` and go into `tensors`.

        Raises:
            TypeError: something in it is no state (a function, an object); the message says under which name.
        """
        if isinstance(value, Tensor):
            return {_TENSOR: self._keep(value.detach(), name)}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) for key in value) and not _MARKS & set(value):
                return {key: self.encode(item, f"{name}.{key}") for key, item in value.items()}
            pairs = [[self.encode(key, name), self.encode(item, f"{name}.{key}")] for key, item in value.items()]
            return {_PAIRS: pairs}
        if isinstance(value, (list, tuple)):
            items = [self.encode(item, f"{name}.{index}") for index, item in enumerate(value)]
            return items if isinstance(value, list) else {_TUPLE: items}
        if isinstance(value, float) and not math.isfinite(value):
            return {_FLOAT: str(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(
            f"{name}: a {type(value).__name__} cannot be saved, only tensors, numbers, strings, lists, dicts"
        )

    def _keep(self, tensor: Tensor, name: str) -> str:
        memory = (
            tensor.device,
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tensor.dtype,
            tuple(tensor.shape),
            tensor.stride(),
        )
        if tensor.numel() > 0 and memory in self._names:
            return self._names[memory]
        self._names[memory] = name
        self.tensors[name] = tensor
        return name


def decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `StateEncoder.encode`.

    Raises:
        KeyError: a tensor is missing.
    """
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(decode(item, tensors) for item in value[_TUPLE])
    if _PAIRS in value:
        return {decode(key, tensors): decode(item, tensors) for key, item in value[_PAIRS]}
    if _FLOAT in value:
        return float(value[_FLOAT])
    return {key: decode(item, tensors) for key, item in value.items()}


def tensor_names(value: Any) -> Iterator[str]:
    """The names of the tensors that `decode(value, tensors)` takes."""
    if isinstance(value, dict):
        if _TENSOR in value:
            yield value[_TENSOR]
            return
        value = value.values()
    elif not isinstance(value, list):
        return
    for item in value:
        yield from tensor_names(item)


def all_finite(tensors: Any) -> bool:
    """Whether every floating tensor in it holds neither NaN nor an infinity."""
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())
