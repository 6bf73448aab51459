"""Rates that change by factors, against torch.optim.lr_scheduler and a worked example."""

import itertools

import numpy as np
import pytest
import torch
from ds_core import ConstantLR, ExponentialLR, MultiStepLR, StepLR
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_twins import THEIRS, check_last_epoch, check_schedule, close, driven, run


def test_worked_example():
    assert StepLR(driven([0.8]), step_size=3, gamma=0.5).values(9) == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.2] * 3)
    assert MultiStepLR(driven([0.8]), [2, 3], gamma=0.5).values(5) == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.2])
    expected = [0.8, 0.72, 0.648, 0.5832]
    assert ExponentialLR(driven([0.8]), gamma=0.9).values(4) == pytest.approx(expected, abs=5e-5)
    assert ConstantLR(driven([0.8]), factor=0.25, total_iters=2).values(4) == pytest.approx([0.2, 0.2, 0.8, 0.8])


@pytest.mark.parametrize(("step_size", "gamma"), [*itertools.product((1, 7, 40, 500), (0.1, 0.5, 1.0, 1.03)), (7, 0)])
def test_step(step_size, gamma):
    check_schedule(lambda module, optimizer: module.StepLR(optimizer, step_size, gamma))


@pytest.mark.parametrize("milestones", [[], [5], np.array([9, 40]), [80, 30], [0, 10, 10, 119, 120, 121], (1, 2, 3, 2)])
@pytest.mark.parametrize("gamma", [0.1, 0.7, 1.1])
def test_multi_step(milestones, gamma):
    check_schedule(lambda module, optimizer: module.MultiStepLR(optimizer, milestones, gamma))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.95, 1.0, 1.02])
def test_exponential(gamma):
    check_schedule(lambda module, optimizer: module.ExponentialLR(optimizer, gamma))


@pytest.mark.parametrize(("factor", "total_iters"), [*itertools.product((0.01, 1 / 3, 1.0), (1, 5, 60, 500)), (0, 500)])
def test_constant(factor, total_iters):
    check_schedule(lambda module, optimizer: module.ConstantLR(optimizer, factor, total_iters))


def test_defaults():
    check_schedule(lambda module, optimizer: module.StepLR(optimizer, 30))
    check_schedule(lambda module, optimizer: module.MultiStepLR(optimizer, milestones=[30]))
    check_schedule(lambda module, optimizer: module.ConstantLR(optimizer))


@pytest.mark.parametrize("after", [0, 5, 6, 40])
def test_last_epoch(after):
    check_last_epoch(lambda module, optimizer, last: module.StepLR(optimizer, 7, 0.5, last), after, leaves=False)
    check_last_epoch(
        lambda module, optimizer, last: module.MultiStepLR(optimizer, [6, 9, 50], 0.5, last), after, leaves=False
    )
    check_last_epoch(lambda module, optimizer, last: module.ConstantLR(optimizer, 0.2, 7, last), after, leaves=False)
    check_last_epoch(lambda module, optimizer, last: module.ExponentialLR(optimizer, 0.9, last), after, leaves=True)


@given(milestones=st.lists(st.integers(0, 60), max_size=8), gamma=st.floats(0.1, 1.5), lr=st.floats(1e-6, 10))
@settings(max_examples=25, deadline=None)
def test_any_milestones(milestones, gamma, lr):
    ours = MultiStepLR(driven([lr]), milestones, gamma)
    theirs = THEIRS.MultiStepLR(driven([lr], torch.optim.SGD), milestones, gamma)
    assert run(ours, 70) == close(run(theirs, 70))


def test_a_rate_comes_back_from_zero():
    """Where the twin divides by 0."""
    assert run(ConstantLR(driven([0.8]), 0, 2), 3) == [[rate, 0.9] for rate in (0.0, 0.0, 0.8, 0.8)]
    with pytest.raises(ZeroDivisionError):
        run(THEIRS.ConstantLR(driven([0.8], torch.optim.SGD), 0, 2), 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda optimizer: StepLR(optimizer, 0), "StepLR: given step_size=0, expected an integer of at least 1"),
        (lambda optimizer: StepLR(optimizer, 2.5), "StepLR: given step_size=2.5, expected an integer"),
        (lambda optimizer: StepLR(optimizer, 2, -0.1), "StepLR: given gamma=-0.1, expected a finite number"),
        (lambda optimizer: StepLR(optimizer, 2, last_epoch=-2), "StepLR: given last_epoch=-2, expected at least -1"),
        (lambda optimizer: MultiStepLR(optimizer, [3, -1]), "MultiStepLR: given milestone=-1, expected an integer"),
        (lambda optimizer: MultiStepLR(optimizer, [3], float("nan")), "MultiStepLR: given gamma=nan"),
        (lambda optimizer: ExponentialLR(optimizer, -1), "ExponentialLR: given gamma=-1"),
        (lambda optimizer: ExponentialLR(optimizer, float("inf")), "ExponentialLR: given gamma=inf"),
        (lambda optimizer: ConstantLR(optimizer, 1.5), r"expected to be between 0 and 1.*ConstantLR got 1.5"),
        (lambda optimizer: ConstantLR(optimizer, -0.5), r"expected to be between 0 and 1"),
        (lambda optimizer: ConstantLR(optimizer, 0.5, 0), "ConstantLR: given total_iters=0"),
    ],
)
def test_impossible_arguments_are_named(make, message):
    optimizer = driven()
    with pytest.raises(ValueError, match=message):
        make(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.3]
