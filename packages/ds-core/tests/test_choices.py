"""Optimizers and schedules by name."""

import pytest
import torch
from ds_core import SGD, Linear, NoamLR, WarmupCosineLR
from ds_core.recipes.choices import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule


def optimizer(lr=0.5):
    return SGD([torch.zeros(1, requires_grad=True)], lr=lr)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_is_for_matrices_only(name):
    layer = Linear(2, 3)
    made = make_optimizer(name, layer, 0.1, 0.3)
    assert [(group["weight_decay"], len(group["params"])) for group in made.param_groups] == [(0.3, 1), (0.0, 1)]
    assert all(float(group["lr"]) == 0.1 for group in made.param_groups)


def test_cosine():
    schedule = make_schedule("cosine", optimizer(), 1000, warmup_steps=100, min_lr=0.01)
    assert isinstance(schedule, WarmupCosineLR)
    assert (schedule.warmup_steps, schedule.total_steps, schedule.min_lr) == (100, 1000, 0.01)


def test_noam():
    schedule = make_schedule("noam", optimizer(), 100, warmup_steps=4000, factor=2.0, embed_dim=512)
    assert isinstance(schedule, NoamLR)
    assert max(schedule.values(9000)) == pytest.approx(2 * (512 * 4000) ** -0.5)


def test_constant_and_others():
    assert make_schedule("constant", optimizer(), 100, warmup_steps=10) is None
    for name in ("cosin", "noam"):
        with pytest.raises(ValueError, match=f"given '{name}', expected cosine, .*, or noam with an embed_dim"):
            make_schedule(name, optimizer(), 100, warmup_steps=10)
    for name in SCHEDULES:
        assert (make_schedule(name, optimizer(), 10, warmup_steps=1) is None) == (name == "constant")
