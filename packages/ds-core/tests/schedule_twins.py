"""Our schedules beside those of torch.optim.lr_scheduler, for their tests."""

import json
import warnings
from types import SimpleNamespace

import pytest
import torch
from ds_core import (
    SGD,
    Adam,
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

OURS = SimpleNamespace(
    **{
        schedule.__name__: schedule
        for schedule in (
            ChainedScheduler,
            ConstantLR,
            CosineAnnealingLR,
            CosineAnnealingWarmRestarts,
            ExponentialLR,
            LambdaLR,
            LinearLR,
            MultiStepLR,
            OneCycleLR,
            PolynomialLR,
            ReduceLROnPlateau,
            SequentialLR,
            StepLR,
        )
    }
)
THEIRS = torch.optim.lr_scheduler
RATES = (1.0, 0.3)


def driven(rates=RATES, kind=SGD):
    """An optimizer with a group for each of `rates`."""
    options = {"momentum": 0.9} if kind in (SGD, torch.optim.SGD) else {}
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates]
    return kind(groups, lr=0.5, **options)


def row(optimizer):
    """The learning rate and the momentum of each group."""
    groups = optimizer.param_groups
    momenta = [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
    return [float(number) for number in [*(group["lr"] for group in groups), *momenta]]


def run(schedule, steps):
    """The rows before each of so many steps, and after the last."""
    rows = [row(schedule.optimizer)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer has stepped, and what torch deprecates in itself
        for _ in range(steps):
            schedule.step()
            rows.append(row(schedule.optimizer))
    return rows


def close(rows):
    return [pytest.approx(row, rel=1e-12, abs=1e-15) for row in rows]


def check_schedule(make, steps=120, rates=RATES, pause=37):
    """Hold the schedule that `make(module, optimizer)` makes against its twin; returns our rows.

    Every step's learning rates and momenta, of both optimizers' kinds and ours and theirs; goes on from its state, as
    JSON holds it; driving torch.optim's optimizers; with tensors as learning rates; and foreseen.
    """
    pause = min(pause, steps)
    for own, other in ((SGD, torch.optim.SGD), (Adam, torch.optim.Adam)):
        schedule = make(OURS, driven(rates, own))
        foreseen = schedule.trajectory(steps + 1)
        assert schedule.last_epoch == 0
        rows = run(schedule, steps)
        assert schedule.last_epoch == steps
        assert rows == close(run(make(THEIRS, driven(rates, other)), steps))
        assert [row[: len(rates)] for row in rows] == foreseen == schedule.trajectory(steps + 1)
        assert schedule.get_last_lr() == foreseen[-1]
        assert schedule.values(steps + 1) == [rates[0] for rates in foreseen]
        assert run(make(OURS, driven(rates, other)), steps) == rows

        paused = make(OURS, driven(rates, own))
        run(paused, pause)
        state = json.loads(json.dumps(paused.state_dict(), allow_nan=False))
        resumed = make(OURS, driven([7 * rate for rate in rates], own))
        run(resumed, 5 if steps > 5 else 0)
        resumed.load_state_dict(state)
        assert run(resumed, steps - pause) == rows[pause:]
        assert resumed.state_dict() == schedule.state_dict()

        optimizer = driven([torch.tensor(rate, dtype=torch.float64) for rate in rates], own)
        tensors = [group["lr"] for group in optimizer.param_groups]
        assert run(make(OURS, optimizer), steps) == rows
        assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    return rows


def check_last_epoch(make, after, leaves):
    """Begun with `last_epoch`, ours is where it would be, and so is the twin.

    Args:
        make: called with module, optimizer and last_epoch.
        after: last_epoch.
        leaves: whether the twin leaves the rate it finds, which has to be that of the step it begins with, or changes
            it from that of the step before.
    """
    rows = run(make(OURS, driven(), -1), after + 30)
    optimizer, other = driven(), driven(kind=torch.optim.SGD)
    for group, base, rate in zip(other.param_groups, RATES, rows[after + 1 if leaves else after], strict=False):
        group.update(lr=rate, initial_lr=base)
    for group, base in zip(optimizer.param_groups, RATES, strict=True):
        group.update(lr=5.0, initial_lr=base)
    schedule = make(OURS, optimizer, after)
    assert schedule.last_epoch == after + 1
    found = run(schedule, 29)
    assert found == rows[after + 1 :]
    assert found == close(run(make(THEIRS, other, after), 29))
    for module in (OURS, THEIRS):
        with pytest.raises(KeyError, match=r"param 'initial_lr' is not specified in param_groups\[0\]"):
            make(module, driven(kind=torch.optim.SGD), after)
