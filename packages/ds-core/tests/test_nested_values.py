"""Nested values: the walks with and without names see the same tensors, and what is rebuilt is built alike."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from ds_core import Module
from ds_core.engine.nested_values import leaves, map_leaves
from ds_core.testing import check_layer
from ds_core.testing.named_tensors import tensors, transform

Pair = namedtuple("Pair", ["first", "second"])


class Row(list):
    """No container: how to build another is its own business."""


@dataclass
class Boxes:
    low: torch.Tensor | None
    high: torch.Tensor | None
    size: torch.Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        self.size = None if self.low is None or self.high is None else self.high - self.low


def numbers(count: int) -> list[torch.Tensor]:
    return [torch.tensor([float(number)]) for number in range(1, count + 1)]


VALUES: dict[str, tuple[Any, list[str]]] = {
    "tensor": (numbers(1)[0], ["y"]),
    "tuple": (tuple(numbers(2)), ["y[0]", "y[1]"]),
    "list in dict": ({"a": numbers(2), "b": None}, ["y['a'][0]", "y['a'][1]"]),
    "ordered": (OrderedDict(a=numbers(1)[0]), ["y['a']"]),
    "named tuple": (Pair(*numbers(2)), ["y[0]", "y[1]"]),
    "dataclass": (Boxes(*numbers(2)), ["y.low", "y.high"]),
    "dataclass in a list": ([Boxes(*numbers(2)), None], ["y[0].low", "y[0].high"]),
    "size": (torch.Size([2, 3]), []),
    "list of another class": (Row(numbers(2)), []),
    "nothing": ((), []),
}


@pytest.mark.parametrize("name", VALUES)
def test_both_walks_see_the_same_tensors(name: str) -> None:
    value, paths = VALUES[name]
    found = list(tensors(value, "y"))
    assert [path for path, _ in found] == paths
    expected = [leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor)]
    assert [id(tensor) for _, tensor in found] == [id(leaf) for leaf in expected]


@pytest.mark.parametrize("name", VALUES)
def test_what_is_changed_is_what_is_named(name: str) -> None:
    value, paths = VALUES[name]
    changed = transform(value, lambda tensor: 10 * tensor)
    assert type(changed) is (type(value) if name != "ordered" else dict)
    assert [path for path, _ in tensors(changed, "y")] == paths
    for (_, new), (_, old) in zip(tensors(changed, "y"), tensors(value, "y"), strict=True):
        assert torch.equal(new, 10 * old)


def test_a_computed_field_is_computed_again() -> None:
    doubled = map_leaves(lambda leaf: 2 * leaf, Boxes(torch.tensor([1.0]), torch.tensor([4.0])))
    assert doubled.size.item() == 6


def test_a_layer_may_return_a_dataclass_with_a_computed_field() -> None:
    class Around(Module):
        def forward(self, x):
            self.save()
            return Boxes(2 * x, 5 * x)

        def backward(self, dboxes):
            self.saved()
            parts = [] if dboxes is None else [(2, dboxes.low), (5, dboxes.high)]
            terms = [factor * gradient for factor, gradient in parts if gradient is not None]
            return sum(terms) if terms else None

    check_layer(Around(), torch.randn(3, 2))
