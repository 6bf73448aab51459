"""One cycle against torch.optim.lr_scheduler, closed forms and a worked example."""

import itertools

import pytest
import torch
from ds_core import SGD, Adam, ExponentialLR, OneCycleLR
from schedule_twins import OURS, THEIRS, check_schedule, close, driven, row, run


def test_worked_example():
    options = {"total_steps": 10, "div_factor": 10, "final_div_factor": 100}
    optimizer = driven([0.5])
    schedule = OneCycleLR(optimizer, 0.8, **options)
    assert [phase.end for phase in schedule.phases] == [2, 9]
    rates = [0.08, 0.44, 0.8, 0.7604, 0.6495, 0.4893, 0.3115, 0.1513, 0.0404, 0.0008]
    assert schedule.values(10) == pytest.approx(rates, abs=5e-5)
    momenta = [0.95, 0.9, 0.85, 0.8550, 0.8688, 0.8889, 0.9111, 0.9312, 0.9450, 0.95]
    assert [schedule.momentum(step)[0] for step in range(10)] == pytest.approx(momenta, abs=5e-5)
    straight = OneCycleLR(driven([0.5]), 0.8, anneal_strategy="linear", **options)
    assert straight.values(4) == pytest.approx([0.08, 0.44, 0.8, 0.6858], abs=5e-5)
    # its step 3 is a seventh of the way from 0.8 down to 0.0008, of which the length is 0.7992
    length = 0.8 - 0.0008
    assert [length, 0.8 - length / 7] == pytest.approx([0.7992, 0.6858], abs=5e-5)
    three = OneCycleLR(driven([0.5]), 0.8, three_phase=True, **options)
    assert [phase.end for phase in three.phases] == [2, 4, 9]
    assert three.values(10)[2:6] == pytest.approx([0.8, 0.44, 0.08, 0.0724], abs=5e-5)
    assert 0.3 * 10 - 1 == 2


@pytest.mark.parametrize(
    ("total", "part", "three"),
    [*itertools.product((3, 7, 120), (0.0, 0.25, 0.3, 0.5), (False, True)), (120, 0.8, True)],
)
@pytest.mark.parametrize("form", ["cos", "linear"])
@pytest.mark.parametrize("cycled", [False, True])
def test_one_cycle(total, part, three, form, cycled):
    def make(module, optimizer):
        return module.OneCycleLR(
            optimizer,
            [0.8, 0.1],
            total,
            pct_start=part,
            anneal_strategy=form,
            cycle_momentum=cycled,
            base_momentum=[0.8, 0.5],
            max_momentum=[0.97, 0.9],
            div_factor=10,
            final_div_factor=50.0,
            three_phase=three,
        )

    rows = check_schedule(make, steps=total)
    assert cycled or all(row[2:] == rows[0][2:] for row in rows)


def test_defaults_and_the_number_of_steps():
    check_schedule(lambda module, optimizer: module.OneCycleLR(optimizer, max_lr=0.3, total_steps=150))
    check_schedule(lambda module, optimizer: module.OneCycleLR(optimizer, 0.3, epochs=15, steps_per_epoch=10))
    both = OneCycleLR(driven(), 0.3, 7, epochs=15, steps_per_epoch=10)
    assert both.total_steps == 7


def test_last_epoch():
    """The twin looks for what an earlier one has left in the groups; ours only for the base."""
    optimizer, other = driven(), driven(kind=torch.optim.SGD)
    run(OneCycleLR(optimizer, 0.3, 80), 41)
    run(THEIRS.OneCycleLR(other, 0.3, 80), 41)
    ours, theirs = (
        make(driven, 0.3, 80, last_epoch=40) for make, driven in ((OneCycleLR, optimizer), (THEIRS.OneCycleLR, other))
    )
    assert ours.last_epoch == 41
    assert run(ours, 39) == close(run(theirs, 39))
    fresh = driven()
    for group in fresh.param_groups:
        group["initial_lr"] = 0.3 / 25
    assert run(OneCycleLR(fresh, 0.3, 80, last_epoch=40), 39) == run(OneCycleLR(optimizer, 0.3, 80, last_epoch=40), 39)


def test_betas_that_are_tensors_are_filled():
    beta = torch.tensor(0.9)
    optimizer = Adam([torch.zeros(1, requires_grad=True)], betas=(beta, torch.tensor(0.999)))
    OneCycleLR(optimizer, 0.1, 50, max_momentum=0.75)
    assert optimizer.param_groups[0]["betas"][0] is beta
    assert beta == 0.75


@pytest.mark.parametrize(("total", "part"), [(10, 0.1), (1, 1.0), (12, 1.0)])
def test_phases_without_length_are_over_at_once(total, part):
    """Where the twin divides by zero."""
    rates = OneCycleLR(driven([0.5]), 0.8, total, pct_start=part).values(total + 1)
    assert rates[int(part * total) - 1] == pytest.approx(0.8)
    assert rates[-1] < 0.8
    with pytest.raises(ZeroDivisionError):
        run(THEIRS.OneCycleLR(driven([0.5], torch.optim.SGD), 0.8, total, pct_start=part), total)


def test_the_end_of_the_cycle():
    for module, kind in ((OURS, SGD), (THEIRS, torch.optim.SGD)):
        schedule = module.OneCycleLR(driven(kind=kind), 0.8, 5)
        run(schedule, 5)
        with pytest.raises(ValueError, match=r"Tried to step 6 times. The specified number of total steps is 5"):
            schedule.step()
    ours = OneCycleLR(driven(), 0.8, 5)
    with pytest.raises(ValueError, match="Tried to step 6 times"):
        ours.load_state_dict({"last_epoch": 6, "base_lrs": [1.0, 1.0]})
    assert (ours.last_epoch, ours.base_lrs) == (0, [0.8 / 25] * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"You must define either total_steps OR \(epochs AND steps_per_epoch\)"),
        ({"epochs": 3}, "You must define either"),
        ({"steps_per_epoch": 3}, "You must define either"),
        ({"total_steps": 0}, "OneCycleLR: given total_steps=0, expected an integer of at least 1"),
        ({"total_steps": 2.5}, "given total_steps=2.5"),
        ({"epochs": 0, "steps_per_epoch": 3}, "given epochs=0"),
        ({"epochs": 3, "steps_per_epoch": -1}, "given steps_per_epoch=-1"),
        ({"total_steps": 9, "pct_start": 1}, "Expected float between 0 and 1 pct_start, but got 1"),
        ({"total_steps": 9, "pct_start": 1.5}, "pct_start, but got 1.5"),
        ({"total_steps": 9, "anneal_strategy": "lin"}, "'cos' or 'linear', instead got 'lin'; did you mean linear"),
        ({"total_steps": 9, "max_lr": [1.0]}, "max_lr has 1 values, param_groups has 2"),
        ({"total_steps": 9, "base_momentum": [0.1] * 3}, "base_momentum must have the same length"),
        ({"total_steps": 9, "max_momentum": (0.1,)}, "max_momentum must have the same length"),
        ({"total_steps": 9, "div_factor": 0}, "OneCycleLR: given div_factor=0, expected a finite number above 0"),
        ({"total_steps": 9, "final_div_factor": -2}, "given final_div_factor=-2"),
    ],
)
def test_impossible_arguments_are_named(options, message):
    optimizer = driven()
    before = row(optimizer)
    with pytest.raises(ValueError, match=message):
        OneCycleLR(optimizer, **{"max_lr": 0.1, **options})
    assert row(optimizer) == before
    assert "initial_lr" not in optimizer.param_groups[0]


def test_an_optimizer_without_momentum():
    for module in (OURS, THEIRS):
        optimizer = torch.optim.Adagrad([torch.zeros(1, requires_grad=True)])
        with pytest.raises(ValueError, match="optimizer must support momentum or beta1 with `cycle_momentum` option"):
            module.OneCycleLR(optimizer, 0.1, 9)
        module.OneCycleLR(optimizer, 0.1, 9, cycle_momentum=False)
        assert "momentum" not in optimizer.param_groups[0]


def test_a_later_schedule_starts_from_where_the_cycle_began():
    optimizer = driven([0.5])
    OneCycleLR(optimizer, 0.8, 9, div_factor=4)
    assert ExponentialLR(optimizer, 0.5).values(2) == [0.2, 0.1]
