"""Rates along a cosine, against torch.optim.lr_scheduler and a worked example."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from ds_core import CosineAnnealingLR, CosineAnnealingWarmRestarts
from schedule_twins import RATES, THEIRS, check_last_epoch, check_schedule, close, driven, row, run


def test_worked_example():
    schedule = CosineAnnealingLR(driven([0.8]), T_max=4, eta_min=0.08)
    expected = [0.8, 0.6946, 0.44, 0.1854, 0.08, 0.1854, 0.44, 0.6946, 0.8]
    assert schedule.values(9) == pytest.approx(expected, abs=5e-5)
    schedule = CosineAnnealingWarmRestarts(driven([0.8]), T_0=2, T_mult=2, eta_min=0.08)
    assert schedule.values(7) == pytest.approx([0.8, 0.44, 0.8, 0.6946, 0.44, 0.1854, 0.8], abs=5e-5)
    # at step 4 what is left of 0.72 is 0.36; by (2) it becomes 0.1054 by the factor 0.2929
    ratio = (1 + math.cos(3 * math.pi / 4)) / (1 + math.cos(math.pi / 2))
    assert [ratio, 0.36 * ratio, 0.72 / 2] == pytest.approx([0.2929, 0.1054, 0.36], abs=5e-5)
    assert schedule.rate(5, 0.8) - 0.08 == pytest.approx(0.1054, abs=5e-5)


@pytest.mark.parametrize(("longest", "least"), [*itertools.product((1, 2, 7, 40, 100, 500), (0.0, 0.01, 0.3))])
def test_cosine(longest, least):
    check_schedule(lambda module, optimizer: module.CosineAnnealingLR(optimizer, longest, least))


@pytest.mark.parametrize(("first", "times", "least"), [*itertools.product((1, 7, 40, 500), (1, 2, 3), (0.0, 0.01))])
def test_warm_restarts(first, times, least):
    check_schedule(lambda module, optimizer: module.CosineAnnealingWarmRestarts(optimizer, first, times, least))


@pytest.mark.parametrize(("longest", "least"), [(15, 0.01), (40, 0.0), (1, 0.05)])
def test_in_a_chain(longest, least):
    def make(module, optimizer):
        return module.ChainedScheduler(
            [module.ExponentialLR(optimizer, 0.97), module.CosineAnnealingLR(optimizer, longest, least)]
        )

    check_schedule(make)


def test_defaults():
    check_schedule(lambda module, optimizer: module.CosineAnnealingLR(optimizer, T_max=30))
    check_schedule(lambda module, optimizer: module.CosineAnnealingLR(optimizer, T_max=np.int64(30)))
    check_schedule(lambda module, optimizer: module.CosineAnnealingWarmRestarts(optimizer, T_0=30))


@pytest.mark.parametrize("after", [0, 5, 6, 40])
def test_last_epoch(after):
    check_last_epoch(
        lambda module, optimizer, last: module.CosineAnnealingLR(optimizer, 50, 0.01, last), after, leaves=True
    )
    # the twin counts its cycles from last_epoch on
    check_last_epoch(
        lambda module, optimizer, last: module.CosineAnnealingWarmRestarts(optimizer, 80, 2, 0.01, last),
        after,
        leaves=True,
    )


def test_restarts_at_a_fraction_of_an_epoch():
    """As in SGDR's training: after each batch, with the position in epochs."""
    ours = CosineAnnealingWarmRestarts(driven(), 3, 2, 0.01)
    theirs = THEIRS.CosineAnnealingWarmRestarts(driven(kind=torch.optim.SGD), 3, 2, 0.01)
    for epoch in (0.25, 0.5, 2.9, 3.1, 8.7, 9.5, 20.3, None, None, 1.5, None):
        for schedule in (ours, theirs):
            schedule.step(epoch)
        assert row(ours.optimizer) == pytest.approx(row(theirs.optimizer), rel=1e-12)
        assert ours.get_last_lr() == row(ours.optimizer)[:2]
        assert ours.last_epoch == theirs.last_epoch
    resumed = CosineAnnealingWarmRestarts(driven([9.0, 9.0]), 3, 2, 0.01)
    resumed.load_state_dict(json.loads(json.dumps(ours.state_dict())))
    assert resumed.get_last_lr() == ours.get_last_lr()
    assert run(resumed, 9) == run(ours, 9)
    for schedule in (ours, theirs):
        with pytest.raises(ValueError, match="Expected non-negative epoch, but got -1"):
            schedule.step(-1)


@pytest.mark.parametrize(("first", "times"), [(1, 3), (5, 3), (10, 2)])
def test_restarts_are_where_the_cycles_end(first, times):
    """Counted in integers: a logarithm, rounded, may name the cycle before."""
    schedule = CosineAnnealingWarmRestarts(driven([1.0]), first, times)
    starts = [first * (times**cycle - 1) // (times - 1) for cycle in range(9)]
    assert [schedule.rate(start, 1.0) for start in starts] == [1.0] * 9
    assert all(schedule.rate(start - 1, 1.0) < 0.5 for start in starts[2:])


def test_a_state_of_the_twin_is_taken():
    theirs = THEIRS.CosineAnnealingLR(driven(kind=torch.optim.SGD), 50, 0.01)
    run(theirs, 20)
    ours = CosineAnnealingLR(driven([3.0, 4.0]), 50, 0.01)
    ours.load_state_dict(theirs.state_dict())
    assert ours.base_lrs == list(RATES)
    assert run(ours, 40) == close(run(theirs, 40))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda optimizer: CosineAnnealingLR(optimizer, 0), "CosineAnnealingLR: given T_max=0, expected an integer"),
        (lambda optimizer: CosineAnnealingLR(optimizer, 5, -0.1), "CosineAnnealingLR: given eta_min=-0.1"),
        (lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 0), "Expected positive integer T_0, but got 0"),
        (lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 1.5), "Expected positive integer T_0, but got 1.5"),
        (lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 5, 0), "Expected integer T_mult >= 1, but got 0"),
        (lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 5, 1.5), "Expected integer T_mult >= 1, but got 1.5"),
        (lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 5, 1, "0"), "Expected float or int eta_min"),
        (lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 5, 1, float("nan")), "Restarts: given eta_min=nan"),
    ],
)
def test_impossible_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(driven())
