"""Layers replaced wherever they stand; SyncBatchNorm's own conversion is tested with it."""

from typing import ClassVar

import torch
from ds_core import Linear, Module, ReLU, Sequential
from ds_core.layers.replace_layers import replace_layers


class Holder(Module):
    def __init__(self, shared: Module) -> None:
        self.one, self.many, self.named = shared, [shared, ReLU()], {"a": (shared, 3)}


def test_a_layer_is_replaced_everywhere_and_once() -> None:
    made = []

    def convert(layer: Linear) -> ReLU:
        made.append(layer)
        return ReLU()

    shared = Linear(2, 2)
    model = Holder(shared)
    assert replace_layers(model, Linear, convert) is model
    assert made == [shared]
    assert isinstance(model.one, ReLU)
    assert model.many[0] is model.one
    assert model.named["a"] == (model.one, 3)
    assert isinstance(replace_layers(shared, (Linear, ReLU), convert), ReLU)


class Forgetful(Module):
    unused_state: ClassVar[tuple[str, ...]] = ("count",)

    def __init__(self) -> None:
        self.scale = torch.ones(2)


def test_keys_that_a_layer_has_no_use_for_are_passed_over() -> None:
    one, two = torch.full((2,), 3.0), torch.tensor(7)
    Forgetful().load_state_dict({"scale": one, "count": two})
    model = Sequential(Forgetful(), Forgetful())
    found = model.load_state_dict({"0.scale": one, "0.count": two, "1.scale": one})
    assert found.unexpected_keys == []
    assert model.state_dict()["1.scale"].tolist() == [3, 3]
