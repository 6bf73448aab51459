"""Modules in modules: where children are found, how they are named, and what reaches all of them."""

import copy

import pytest
import torch
from ds_core import Linear, Module, Sequential


class Tied(Module):
    def __init__(self):
        self.embed = Linear(3, 3, bias=False)
        self.head = Linear(3, 3)
        self.head.weight = self.embed.weight


class Nested(Module):
    def __init__(self):
        self.first = Linear(2, 2)
        self.blocks = [Linear(2, 2), (Linear(2, 3), {"deep": Linear(3, 2)})]
        self.numbers = [1, "two", None]


def names(pairs):
    return [name for name, _ in pairs]


def test_children_in_lists_tuples_and_dicts_of_any_depth():
    module = Nested()
    assert names(module.named_modules()) == ["", "first", "blocks.0", "blocks.1.0", "blocks.1.1.deep"]
    assert len(list(module.parameters())) == 8
    module.blocks.append(Linear(2, 2))  # found at look-up
    assert names(module.named_children())[-1] == "blocks.2"
    assert "blocks.1.1.deep.weight" in module.state_dict()
    assert names(module.named_parameters(recurse=False)) == []
    assert names(module.blocks[0].named_parameters("front")) == ["front.weight", "front.bias"]


def test_children_come_as_they_were_assigned_and_a_hidden_layer_is_none():
    ours, theirs = Module(), torch.nn.Module()
    for module, layer in ((ours, Linear), (theirs, torch.nn.Linear)):
        module.first = None
        module.second = layer(2, 2)
        module.first = layer(2, 2)
        module.third = layer(2, 2)
        module.third = None
        module.__dict__["hidden"] = layer(2, 2)
    assert names(ours.named_children()) == names(theirs.named_children()) == ["second", "first"]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    twin = copy.deepcopy(ours)
    assert names(twin.named_children()) == ["second", "first"]
    assert twin.second is not ours.second
    ours.third = Linear(2, 2)
    assert names(twin.named_children()) == ["second", "first"]


def test_shared_parameters_and_modules_are_counted_once_and_saved_under_every_name():
    tied = Tied()
    assert names(tied.named_parameters()) == ["embed.weight", "head.bias"]
    assert names(tied.named_parameters(remove_duplicate=False)) == ["embed.weight", "head.weight", "head.bias"]
    assert list(tied.state_dict()) == ["embed.weight", "head.weight", "head.bias"]
    layer = Linear(2, 2)
    twice = Sequential(layer, layer)
    assert names(twice.named_modules()) == ["", "0"]
    assert list(twice.children()) == [layer]
    assert len(list(twice.parameters())) == 2
    assert list(twice.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_train_and_eval_reach_every_module():
    module = Nested()
    assert all(part.training for part in module.modules())
    assert module.eval() is module
    assert not any(part.training for part in module.modules())
    module.train()
    assert all(part.training for part in module.modules())


def test_apply_goes_children_first_in_torchs_order():
    ours, theirs = [], []
    model = Sequential(Linear(1, 2), Sequential(Linear(2, 3), Linear(3, 4)), Linear(4, 5))
    model.apply(lambda m: ours.append(getattr(m, "out_features", "sequence")))
    nn = torch.nn
    nn.Sequential(nn.Linear(1, 2), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)), nn.Linear(4, 5)).apply(
        lambda m: theirs.append(getattr(m, "out_features", "sequence"))
    )
    assert ours == theirs


def test_a_torch_module_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="from_torch"):
        Sequential(Linear(2, 2), torch.nn.ReLU())


@pytest.mark.parametrize("put", [lambda m: [m], lambda m: {"a": (m,)}])
def test_a_torch_module_inside_a_container_is_refused(put):
    with pytest.raises(TypeError, match=r"Module.blocks.* which has no backward"):
        Module().blocks = put(torch.nn.Linear(2, 2))


def test_a_class_in_place_of_a_layer_is_refused():
    with pytest.raises(TypeError, match=r"Module.head: given the class Linear, expected a layer: write Linear\(...\)"):
        Module().head = Linear
