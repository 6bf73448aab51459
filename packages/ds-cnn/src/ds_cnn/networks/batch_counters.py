"""Counters of batches in files of weights, where some have none. The rules: docs/resnet_pretrained.md."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_COUNTER = "num_batches_tracked"  # of a batch norm; files of before 2018 have none


def with_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with a counter of batches for each batch norm that has none, such as frozen ones: readers expect it."""
    whole = {}
    for name, tensor in tensors.items():
        whole[name] = tensor
        counter = name.removesuffix("running_var") + _COUNTER
        if name.endswith(".running_var") and counter not in tensors:
            whole[counter] = torch.zeros((), dtype=torch.int64)
    return whole


def with_expected_counters(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """`tensors` of a file with counters of 0 if it has none at all, and without them if none are expected.

    Args:
        expected: the names that the file should have.
    """
    counters = [name for name in expected if name.endswith(_COUNTER)]
    if not any(name.endswith(_COUNTER) for name in tensors):
        return {**tensors, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}
    if not counters:
        return {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    return dict(tensors)
