"""A learning rate for every layer, and that the schedules keep their proportion."""

import pytest
import torch
from ds_core import AdamW, ConstantLR, CosineAnnealingLR, Linear, Module, OneCycleLR, StepLR, WarmupCosineLR, parameter
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo.finetuning import add_lora, freeze, parameter_groups
from ds_zoo.finetuning.layer_decay import layers_above
from tiny_model import loss_of, tiny_model


def rates(model, **options):
    """By name: learning rate and weight decay."""
    groups = parameter_groups(model, **{"weight_decay": 0.1, "lr": 0.01, **options})
    of = {id(tensor): group for group in groups for tensor in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(of)
    names = [(name, of[id(tensor)]) for name, tensor in model.named_parameters() if id(tensor) in of]
    return {name: (group["lr"], group["weight_decay"]) for name, group in names}


def test_worked_example():
    """docs/finetuning/layer_decay.md: each layer has its rate."""
    model = tiny_model()
    found = rates(model, layer_decay=0.5)
    assert found.keys() == dict(model.named_parameters()).keys()
    expected = {"tokens": 0.00125, "positions": 0.00125, "blocks.0": 0.0025, "blocks.1": 0.005, "norm": 0.01}
    for name, (rate, decay) in found.items():
        part = next(part for part in expected if name.startswith(f"{part}."))
        assert rate == pytest.approx(expected[part], rel=1e-12), name
        assert decay == (0.1 if dict(model.named_parameters())[name].dim() == 2 else 0.0)


def test_without_decay_the_groups_are_the_ordinary_ones():
    model = tiny_model()
    expected = [{**group, "lr": 0.01} for group in decay_groups(model, 0.1)]
    found = parameter_groups(model, weight_decay=0.1, lr=0.01)
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        assert [id(tensor) for tensor in one.pop("params")] == [id(tensor) for tensor in other.pop("params")]
        assert one == other


def test_frozen_parameters_are_left_out():
    model = tiny_model()
    freeze(model, ["tokens", "blocks.0"])
    assert all(not name.startswith(("tokens", "blocks.0")) for name in rates(model, layer_decay=0.5))
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen"):
        parameter_groups(model, weight_decay=0.1, lr=0.01)


def test_updates_of_lora_have_their_layers_rate():
    model = tiny_model()
    add_lora(model, 1, 1.0)
    found = {name: rate for name, (rate, _) in rates(model, layer_decay=0.5).items()}
    assert found == {f"blocks.{i}.attention.lora_{x}": 0.01 * 0.5 ** (2 - i) for i in (0, 1) for x in "ab"}


class Stack(Module):
    def __init__(self, depth):
        self.embedding = Linear(2, 2, False)
        self.blocks = [Linear(2, 2, False) for _ in range(depth)]
        self.norm = Linear(2, 2, False)


class Two(Module):
    def __init__(self):
        self.vision = Stack(3)
        self.text = Stack(1)
        self.projection = Linear(2, 2, False)
        self.logit_scale = parameter(torch.zeros(()))


def test_two_stacks_count_by_themselves():
    assert layers_above(Two()) == {
        "vision.embedding.weight": 4,
        "vision.blocks.0.weight": 3,
        "vision.blocks.1.weight": 2,
        "vision.blocks.2.weight": 1,
        "vision.norm.weight": 0,
        "text.embedding.weight": 2,
        "text.blocks.0.weight": 1,
        "text.norm.weight": 0,
        "projection.weight": 0,
        "logit_scale": 0,
    }


def test_a_model_without_blocks_has_one_rate():
    assert layers_above(Linear(2, 2)) == {"weight": 0, "bias": 0}


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: WarmupCosineLR(optimizer, 2, 6),
        lambda optimizer: WarmupCosineLR(optimizer, 2, 6, min_lr=0.004),
        lambda optimizer: CosineAnnealingLR(optimizer, 5),
        lambda optimizer: StepLR(optimizer, 2),
        lambda optimizer: ConstantLR(optimizer, total_iters=3),
    ],
)
def test_schedules_keep_the_proportion(schedule):
    model = tiny_model()
    optimizer = AdamW(parameter_groups(model, weight_decay=0.1, lr=0.01, layer_decay=0.5))
    made = schedule(optimizer)
    for _ in range(8):
        now = [group["lr"] for group in optimizer.param_groups]
        top = now[0]
        own = [group["initial_lr"] / 0.01 for group in optimizer.param_groups]
        assert now == pytest.approx([top * share for share in own], rel=1e-12)
        loss_of(model)
        optimizer.step()
        optimizer.zero_grad()
        made.step()


@pytest.mark.parametrize("layer_decay", [0.0, -0.5, 1.5, float("nan")])
def test_impossible_decay(layer_decay):
    with pytest.raises(ValueError, match="expected more than 0 and at most 1"):
        parameter_groups(tiny_model(), weight_decay=0.1, lr=0.01, layer_decay=layer_decay)


def test_a_step_moves_lower_layers_less():
    """Adam's first step has the size of the learning rate, so the change of a parameter shows its rate."""
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = AdamW(parameter_groups(model, weight_decay=0.0, lr=0.01, layer_decay=0.5), weight_decay=0.0)
    loss_of(model)
    optimizer.step()
    moved = {name: float((tensor - before[name]).abs().max()) for name, tensor in model.state_dict().items()}
    assert moved["blocks.0.norm1.weight"] == pytest.approx(0.0025, rel=1e-3)
    assert moved["blocks.1.norm1.weight"] == pytest.approx(0.005, rel=1e-3)
    assert moved["norm.weight"] == pytest.approx(0.01, rel=1e-3)


def test_one_cycle_takes_a_rate_for_each_group():
    optimizer = AdamW(parameter_groups(tiny_model(), weight_decay=0.1, lr=0.01, layer_decay=0.5))
    rates_of_groups = [group["lr"] for group in optimizer.param_groups]
    OneCycleLR(optimizer, max_lr=rates_of_groups, total_steps=5)
    now = [group["lr"] for group in optimizer.param_groups]
    assert now == pytest.approx([rate / 25 for rate in rates_of_groups])
