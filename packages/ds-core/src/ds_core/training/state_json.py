"""State (dicts and lists of numbers, strings and tensors) as JSON plus named tensors, and back."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

# JSON has no tensors, tuples, keys that are not strings, infinities: each is a dict with one of these keys
_TENSOR, _TUPLE, _PAIRS, _FLOAT = "$tensor", "$tuple", "$pairs", "$float"
_MARKS = {_TENSOR, _TUPLE, _PAIRS, _FLOAT}


class Packer:
    """Collects the tensors of nested state under dotted names; one memory is kept once (tied weights)."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def pack(self, value: Any, name: str) -> Any:
        """`value` as JSON, its tensors as `{"$tensor": name}`.

        Raises:
            TypeError: something that is neither (a function, an object), with the name it would have.
        """
        if isinstance(value, Tensor):
            return {_TENSOR: self._keep(value.detach(), name)}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) for key in value) and not _MARKS & set(value):
                return {key: self.pack(item, f"{name}.{key}") for key, item in value.items()}
            return {_PAIRS: [[self.pack(key, name), self.pack(item, f"{name}.{key}")] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            items = [self.pack(item, f"{name}.{index}") for index, item in enumerate(value)]
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


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `Packer.pack`.

    Raises:
        KeyError: a tensor is not there.
    """
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(unpack(item, tensors) for item in value[_TUPLE])
    if _PAIRS in value:
        return {unpack(key, tensors): unpack(item, tensors) for key, item in value[_PAIRS]}
    if _FLOAT in value:
        return float(value[_FLOAT])
    return {key: unpack(item, tensors) for key, item in value.items()}


def tensor_names(value: Any) -> Iterator[str]:
    """The names of the tensors that `unpack(value, tensors)` takes."""
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
