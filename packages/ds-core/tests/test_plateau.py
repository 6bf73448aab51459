"""Rates that fall on a plateau, against torch.optim.lr_scheduler, in a Trainer, and a worked example."""

import itertools
import json
import math

import pytest
import torch
from ds_core import Adam, Linear, ReduceLROnPlateau, Trainer
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_twins import OURS, RATES, THEIRS, driven, row


def test_worked_example():
    schedule = ReduceLROnPlateau(driven([0.8]), factor=0.5, patience=1, threshold=0.1, cooldown=1, min_lr=0.1)
    losses = [2.0, 1.9, 1.7, 1.6, 1.55, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6, 1.6]
    rates = [0.8] * 5 + [0.4] * 3 + [0.2] * 3 + [0.1] * 4
    assert schedule.values(losses) == pytest.approx(rates)
    assert [best * (1 - schedule.threshold) for best in (2.0, 1.7, 1.6)] == pytest.approx([1.8, 1.53, 1.44])


def measured(count, seed):
    """Something that improves, slowly and not always, and now and then is no number."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, generator=generator, dtype=torch.float64).tolist()
    values = [math.exp(-step / 30) + 0.1 * noise[step] for step in range(count)]
    values[17], values[40], values[41] = math.nan, math.inf, -0.5
    return values


def track(schedule, metrics):
    rows = [row(schedule.optimizer)]
    for metric in metrics:
        schedule.step(metric)
        rows.append(row(schedule.optimizer))
    return rows


def check(metrics, rates=RATES, **options):
    """Against the twin, from a state in the middle, with tensors, and foreseen."""
    ours = ReduceLROnPlateau(driven(rates), **options)
    theirs = THEIRS.ReduceLROnPlateau(driven(rates, torch.optim.SGD), **options)
    foreseen = ours.trajectory(metrics)
    assert ours.state_dict() == ReduceLROnPlateau(driven(rates), **options).state_dict()
    rows = track(ours, metrics)
    assert rows == track(theirs, metrics)
    assert [found[: len(rates)] for found in rows] == foreseen == ours.trajectory(metrics)
    assert (ours.num_bad_epochs, ours.cooldown_counter, ours.last_epoch) == (
        theirs.num_bad_epochs,
        theirs.cooldown_counter,
        theirs.last_epoch,
    )
    middle = len(metrics) // 2
    paused = ReduceLROnPlateau(driven(rates), **options)
    track(paused, metrics[:middle])
    resumed = ReduceLROnPlateau(driven([9.0] * len(rates)), **options)
    track(resumed, metrics[:3])
    resumed.load_state_dict(json.loads(json.dumps(paused.state_dict())))
    assert track(resumed, metrics[middle:]) == rows[middle:]
    assert resumed.trajectory(metrics) == foreseen

    optimizer = driven([torch.tensor(rate, dtype=torch.float64) for rate in rates])
    tensors = [group["lr"] for group in optimizer.param_groups]
    assert track(ReduceLROnPlateau(optimizer, **options), metrics) == rows
    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    return rows


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "threshold", "patience", "cooldown"),
    [*itertools.product(("min", "max"), ("rel", "abs"), (0.0, 0.05, 1.0), (0, 4), (0, 3))],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_plateau(mode, threshold_mode, threshold, patience, cooldown, seed):
    rows = check(
        measured(120, seed),
        mode=mode,
        factor=0.7,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_lr=[1e-3, 0.1],
        eps=1e-6,
    )
    assert rows[-1] != rows[0]


@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.3, 0.6])
@pytest.mark.parametrize("min_lr", [0, 0.05, [0.5, 0.0], (2.0, 0.01)])
def test_the_least_rate_and_the_least_change(eps, min_lr):
    check([1.0] * 60, patience=1, factor=0.5, min_lr=min_lr, eps=eps)


@given(
    metrics=st.lists(st.floats(-2, 2) | st.sampled_from([math.inf, -math.inf, math.nan]), max_size=40),
    mode=st.sampled_from(["min", "max"]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    patience=st.integers(0, 3),
    lrs=st.lists(st.floats(1e-4, 2), min_size=1, max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_any_metrics(metrics, mode, threshold_mode, patience, lrs):
    check(metrics, lrs, mode=mode, threshold_mode=threshold_mode, patience=patience)


def test_defaults_and_tensors_as_metrics():
    check(measured(120, 2))
    schedule = ReduceLROnPlateau(driven(kind=Adam), patience=0)
    for metric in (torch.tensor(1.0), torch.tensor([2.0])):
        schedule.step(metric)
    assert schedule.get_last_lr() == [0.1, pytest.approx(0.03)]
    assert json.dumps(schedule.state_dict(), allow_nan=False)


def test_the_first_state_is_strict_json():
    assert json.loads(json.dumps(ReduceLROnPlateau(driven()).state_dict(), allow_nan=False))["best"] is None


def test_other_schedules_are_left_what_they_have_set():
    optimizer = driven()
    schedule = ReduceLROnPlateau(optimizer, patience=0)
    optimizer.param_groups[0]["lr"] = 4.0
    track(schedule, [1.0, 2.0])
    assert row(optimizer)[:2] == pytest.approx([0.4, 0.03])


def test_groups_that_come_later():
    extra = {"params": [torch.zeros(1, requires_grad=True)], "lr": 0.5}
    for module, kind in ((OURS, None), (THEIRS, torch.optim.SGD)):
        optimizer = driven() if kind is None else driven(kind=kind)
        schedule, strict = (module.ReduceLROnPlateau(optimizer, patience=0, min_lr=least) for least in (0.2, [0.2, 0]))
        optimizer.add_param_group(dict(extra))
        track(schedule, [1.0, 2.0])
        assert row(optimizer)[:3] == pytest.approx([0.2, 0.2, 0.2])
        strict.step(1.0)
        with pytest.raises(RuntimeError, match=r"min_lrs|param groups"):
            strict.step(2.0)


def test_a_state_of_other_groups_changes_nothing():
    optimizer = driven()
    schedule = ReduceLROnPlateau(optimizer)
    state = ReduceLROnPlateau(driven([1.0])).state_dict()
    with pytest.raises(ValueError, match="ReduceLROnPlateau: given a state of 1 parameter groups, the optimizer has 2"):
        schedule.load_state_dict({**state, "best": 3.0})
    with pytest.raises(KeyError):
        schedule.load_state_dict({"best": 1.0})
    assert (schedule.best, row(optimizer)[:2]) == (None, [1.0, 0.3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "Factor should be < 1.0, but ReduceLROnPlateau got 1.0"),
        ({"factor": -0.5}, "given factor=-0.5, expected a finite number of at least 0"),
        ({"factor": math.nan}, "Factor should be < 1.0"),
        ({"mode": "mim"}, "mode mim is unknown!; did you mean min"),
        ({"threshold_mode": "relative"}, "threshold mode relative is unknown!"),
        ({"threshold": -1}, "given threshold=-1"),
        ({"eps": -1}, "given eps=-1"),
        ({"patience": -1}, "given patience=-1, expected an integer of at least 0"),
        ({"cooldown": 0.5}, "given cooldown=0.5"),
        ({"min_lr": [0.1]}, "expected 2 min_lrs, got 1"),
    ],
)
def test_impossible_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ReduceLROnPlateau(driven(), **options)


def test_in_a_trainer(small, tmp_path):
    """As a callback; killed and resumed it ends where the unbroken run does."""

    def make(folder):
        trainer = small.make(
            schedule=None, folder=folder, evaluate=small.validation, evaluate_every=2, checkpoint_every=1
        )
        plateau = ReduceLROnPlateau(trainer._stepper.optimizer, factor=0.5, patience=1, threshold=0.2)
        trainer.callbacks.append(plateau)
        return trainer, plateau

    whole, plateau = make(tmp_path / "whole")
    whole.fit(small.Points(), 30)
    rates = [record["learning_rate"] for record in whole.history.training]
    losses = [record["loss"] for record in whole.history.evaluations]
    foreseen = plateau.values(losses)
    assert rates == [foreseen[step // 2] for step in range(30)]
    assert rates[-1] < rates[0]
    first, _ = make(tmp_path / "parts")
    first.fit(small.Points(), 14)
    second, resumed = make(tmp_path / "parts")
    second.resume()
    second.fit(small.Points(), 30)
    assert resumed.state_dict() == plateau.state_dict()
    assert torch.equal(small.weights(second), small.weights(whole))


def test_a_trainer_that_measures_something_else(small):
    trainer = small.make(schedule=None, evaluate=lambda model: {"accuracy": 1.0}, evaluate_every=1)
    trainer.callbacks.append(ReduceLROnPlateau(trainer._stepper.optimizer))
    with pytest.raises(ValueError, match="ReduceLROnPlateau: evaluate gave kind, step, accuracy, expected loss"):
        trainer.fit(small.Points(), 2)
    named = small.make(schedule=None, evaluate=lambda model: {"accuracy": 0.5}, evaluate_every=1)
    named.callbacks.append(ReduceLROnPlateau(named._stepper.optimizer, mode="max", patience=0, value="accuracy"))
    history = named.fit(small.Points(), 4)
    rates = [record["learning_rate"] for record in history.training]
    assert rates == pytest.approx([rates[0], rates[0], rates[0] / 10, rates[0] / 100])


def test_as_a_trainers_schedule_it_is_called_after_evaluations(small):
    rates = []
    for as_schedule in (True, False):
        torch.manual_seed(0)
        model = Linear(2, 1)
        optimizer = Adam(model.parameters(), lr=0.1)
        plateau = ReduceLROnPlateau(optimizer, patience=0, mode="max")
        options = {"schedule": plateau} if as_schedule else {"callbacks": [plateau]}
        evaluate = {"evaluate": small.validation, "evaluate_every": 2, "progress": False}
        history = Trainer(model, small.Squares(), optimizer, **options, **evaluate).fit(small.Points(), 8)
        rates.append([record["learning_rate"] for record in history.training])
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 2
