"""Warm-up and a cosine against nanoGPT's rule and a worked example."""

import math

import pytest
import torch
from ds_core import SGD, AdamW, WarmupCosineLR
from hypothesis import given, settings
from hypothesis import strategies as st


def optimizer(lr=1.0, kind=SGD):
    return kind([torch.zeros(1, requires_grad=True)], lr=lr)


def test_worked_example():
    schedule = WarmupCosineLR(optimizer(lr=0.8), warmup_steps=3, total_steps=7, min_lr=0.08)
    expected = [0.2, 0.4, 0.6, 0.8, 0.6946, 0.44, 0.1854, 0.08, 0.08]
    assert schedule.values(9) == pytest.approx(expected, abs=5e-5)


def nanogpt(step, lr, warmup, total, least):
    """The rule of nanoGPT's train.py in its own order of cases."""
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step > total:
        return least
    ratio = (step - warmup) / (total - warmup)
    assert 0 <= ratio <= 1
    return least + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (lr - least)


@settings(deadline=None)
@given(
    lr=st.floats(1e-5, 1),
    warmup=st.integers(0, 20),
    more=st.integers(1, 30),
    least=st.floats(0, 1e-5),
    kind=st.sampled_from([SGD, AdamW, torch.optim.SGD, torch.optim.AdamW]),
)
def test_is_nanogpts_rule_with_any_optimizer(lr, warmup, more, least, kind):
    driven = optimizer(lr, kind)
    schedule = WarmupCosineLR(driven, warmup, warmup + more, least)
    for step in range(warmup + more + 3):
        expected = nanogpt(step, lr, warmup, warmup + more, least)
        assert driven.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)
        assert schedule.get_last_lr() == [driven.param_groups[0]["lr"]]
        schedule.step()


def test_each_group_has_its_own_rate_and_tensors_are_filled():
    rate = torch.tensor(0.5)
    driven = SGD(
        [{"params": torch.zeros(1, requires_grad=True)}, {"params": torch.zeros(1, requires_grad=True), "lr": rate}],
        lr=1.0,
    )
    schedule = WarmupCosineLR(driven, 1, 3, 0.0)
    seen = []
    for _ in range(5):
        seen.append([float(group["lr"]) for group in driven.param_groups])
        schedule.step()
    assert driven.param_groups[1]["lr"] is rate
    assert seen == [[0.5, 0.25], [1.0, 0.5], pytest.approx([0.5, 0.25]), [0.0, 0.0], [0.0, 0.0]]


def test_goes_on_from_its_state():
    first = optimizer(0.3)
    schedule = WarmupCosineLR(first, 2, 10, 0.01)
    for _ in range(5):
        schedule.step()
    state = schedule.state_dict()
    schedule.step()
    second = optimizer(7.0)
    resumed = WarmupCosineLR(second, 2, 10, 0.01)
    resumed.load_state_dict(state)
    assert second.param_groups[0]["lr"] == schedule.values(6)[5]
    resumed.step()
    assert second.param_groups == [
        {**first.param_groups[0], "params": second.param_groups[0]["params"], "initial_lr": 7.0}
    ]
    other = SGD([{"params": torch.zeros(1, requires_grad=True)}, {"params": torch.zeros(1, requires_grad=True)}])
    with pytest.raises(ValueError, match="given a state of 1 parameter groups, the optimizer has 2"):
        WarmupCosineLR(other, 2, 10, 0.01).load_state_dict(state)


def test_a_schedule_made_later_starts_from_the_same_rate():
    driven = optimizer(0.5)
    WarmupCosineLR(driven, 4, 10)
    assert driven.param_groups[0]["lr"] == pytest.approx(0.1)
    assert WarmupCosineLR(driven, 4, 10).base_lrs == [0.5]


def test_no_warm_up_and_no_cosine():
    assert WarmupCosineLR(optimizer(), 0, 2, 0.5).values(3) == [1.0, 0.75, 0.5]
    assert WarmupCosineLR(optimizer(), 2, 2, 0.5).values(4) == pytest.approx([1 / 3, 2 / 3, 0.5, 0.5])
    assert WarmupCosineLR(optimizer(), 0, 0, 0.5).values(2) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10, 0.1), "given warmup_steps=-1 and total_steps=10, expected 0 <= warmup_steps <= total_steps"),
        ((11, 10, 0.1), "given warmup_steps=11 and total_steps=10"),
        ((0, 10, -0.1), "given min_lr=-0.1, expected a finite number of at least 0"),
        ((0, 10, math.nan), "given min_lr=nan"),
        ((0, 10, math.inf), "given min_lr=inf"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    driven = optimizer(0.5)
    with pytest.raises(ValueError, match=message):
        WarmupCosineLR(driven, *arguments)
    assert driven.param_groups[0]["lr"] == 0.5


def test_last_epoch():
    driven = optimizer(0.3)
    driven.param_groups[0]["initial_lr"] = 0.5
    schedule = WarmupCosineLR(driven, 4, 10, 0.1, last_epoch=6)
    assert (
        driven.param_groups[0]["lr"] == schedule.values(8)[7] == WarmupCosineLR(optimizer(0.5), 4, 10, 0.1).values(8)[7]
    )


def test_each_group_ends_at_its_share_of_the_least_rate():
    groups = [{"params": torch.zeros(1, requires_grad=True), "lr": rate} for rate in (0.2, 0.8, 0.0)]
    driven = SGD(groups, lr=1.0)
    schedule = WarmupCosineLR(driven, 3, 7, 0.08)
    expected = [0.2, 0.4, 0.6, 0.8, 0.6946, 0.44, 0.1854, 0.08, 0.08]  # the highest one's, as if it were alone
    for rate in expected:
        assert [group["lr"] for group in driven.param_groups] == pytest.approx([rate / 4, rate, 0.0], abs=5e-5)
        schedule.step()


def test_rates_of_zero_end_at_the_least_rate():
    assert WarmupCosineLR(optimizer(lr=0.0), 1, 3, 0.08).values(4) == pytest.approx([0.0, 0.0, 0.04, 0.08])
