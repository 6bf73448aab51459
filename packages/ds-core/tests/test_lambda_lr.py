"""Rates by a function of one's own, against torch.optim.lr_scheduler and a worked example."""

import pytest
import torch
from ds_core import LambdaLR
from schedule_twins import OURS, THEIRS, check_last_epoch, check_schedule, driven


def test_worked_example():
    schedule = LambdaLR(driven([0.8, 0.4]), [lambda step: 1 / (1 + step), lambda step: 0.5**step])
    expected = [[0.8, 0.4], [0.4, 0.2], [pytest.approx(0.2667, abs=5e-5), 0.1]]
    assert schedule.trajectory(3) == expected
    assert 0.5 == 0.5**1


@pytest.mark.parametrize(
    "functions",
    [
        lambda step: 0.95**step,
        [lambda step: step // 30, lambda step: 1],
        (lambda step: 1 / (1 + step), lambda step: torch.tensor(0.5, dtype=torch.float64)),
    ],
)
def test_lambda(functions):
    check_schedule(lambda module, optimizer: module.LambdaLR(optimizer, functions))


@pytest.mark.parametrize("after", [0, 5, 40])
def test_last_epoch(after):
    check_last_epoch(
        lambda module, optimizer, last: module.LambdaLR(optimizer, lambda step: 0.9**step, last), after, leaves=True
    )


def test_functions_are_not_saved():
    assert LambdaLR(driven(), lambda step: 2).state_dict() == {"last_epoch": 0, "base_lrs": [1.0, 0.3]}


def test_a_function_for_each_group():
    for module, kind in ((OURS, torch.optim.SGD), (THEIRS, torch.optim.SGD)):
        with pytest.raises(ValueError, match="Expected 2 lr_lambdas, but got 1"):
            module.LambdaLR(driven(kind=kind), [lambda step: 1])
