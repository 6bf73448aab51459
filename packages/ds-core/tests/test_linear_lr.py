"""Rates along a line or a power, against torch.optim.lr_scheduler and a worked example."""

import itertools

import pytest
from ds_core import LinearLR, PolynomialLR
from schedule_twins import check_last_epoch, check_schedule, driven


def test_worked_example():
    schedule = LinearLR(driven([0.8]), start_factor=0.25, end_factor=1.0, total_iters=3)
    assert [schedule.factor(step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert schedule.values(5) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert PolynomialLR(driven([0.8]), 4).values(6) == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0, 0.0])
    schedule = PolynomialLR(driven([0.8]), 4, power=2)
    assert [schedule.factor(step) for step in range(3)] == pytest.approx([1, 0.5625, 0.25])
    assert schedule.values(6) == pytest.approx([0.8, 0.45, 0.2, 0.05, 0.0, 0.0])
    assert [step / 4 for step in range(3)] == [0.0, 0.25, 0.5]


@pytest.mark.parametrize(
    ("start", "end", "total"), [*itertools.product((1e-3, 1 / 3, 1.0), (0.0, 0.5, 1.0), (1, 5, 100, 500))]
)
def test_linear(start, end, total):
    check_schedule(lambda module, optimizer: module.LinearLR(optimizer, start, end, total))


@pytest.mark.parametrize(("total", "power"), [*itertools.product((1, 5, 100, 500), (0.0, 0.5, 1.0, 2.0, 3.7))])
def test_polynomial(total, power):
    check_schedule(lambda module, optimizer: module.PolynomialLR(optimizer, total, power))


def test_defaults():
    check_schedule(lambda module, optimizer: module.LinearLR(optimizer))
    check_schedule(lambda module, optimizer: module.PolynomialLR(optimizer))


@pytest.mark.parametrize("after", [0, 5, 6, 40])
def test_last_epoch(after):
    check_last_epoch(lambda module, optimizer, last: module.LinearLR(optimizer, 0.1, 0.8, 7, last), after, leaves=True)
    check_last_epoch(lambda module, optimizer, last: module.PolynomialLR(optimizer, 70, 1.5, last), after, leaves=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda optimizer: LinearLR(optimizer, 0), "greater than 0 and less or equal to 1, but LinearLR got 0"),
        (lambda optimizer: LinearLR(optimizer, 1.1), "greater than 0 and less or equal to 1, but LinearLR got 1.1"),
        (lambda optimizer: LinearLR(optimizer, 0.5, -1), "Ending multiplicative factor expected to be between 0 and 1"),
        (lambda optimizer: LinearLR(optimizer, 0.5, 1.5), "between 0 and 1, but LinearLR got 1.5"),
        (lambda optimizer: LinearLR(optimizer, total_iters=0), "LinearLR: given total_iters=0, expected an integer"),
        (lambda optimizer: PolynomialLR(optimizer, 0), "PolynomialLR: given total_iters=0"),
        (lambda optimizer: PolynomialLR(optimizer, 3, -1), "PolynomialLR: given power=-1, expected a finite number"),
    ],
)
def test_impossible_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(driven())
