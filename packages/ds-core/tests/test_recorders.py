"""Callbacks that write down: gradient norms, learning rates, TensorBoard."""

import builtins
import math

import pytest
import torch
from ds_core import GradientNorms, LearningRates, Linear, Sequential, TensorBoard, Trainer
from ds_core.errors import MissingPackageError


def records(trainer, kind):
    return [record for record in trainer.history.records if record["kind"] == kind]


def test_gradient_norms(small):
    trainer = small.make(callbacks=[GradientNorms(2)], clip_norm=0.01)
    trainer.fit(small.Points(), 5)
    found = records(trainer, "gradient_norms")
    assert [record["step"] for record in found] == [1, 3, 5]
    names = {name for name, _ in trainer.model.named_parameters()}
    for record in found:
        assert set(record) - {"kind", "step"} == names
        total = math.sqrt(sum(record[name] ** 2 for name in names))  # of all, before they are clipped
        assert total == pytest.approx(trainer.history.training[record["step"] - 1]["gradient_norm"], rel=1e-5)
        assert total > 0.01
    with pytest.raises(ValueError, match="every=0"):
        GradientNorms(0)


def test_measuring_the_norm_without_clipping(small):
    free = small.make()
    free.fit(small.Points(), 3)
    measured = small.make(clip_norm=math.inf)
    measured.fit(small.Points(), 3)
    assert all(record["gradient_norm"] > 0 for record in measured.history.training)
    torch.testing.assert_close(small.weights(free), small.weights(measured), rtol=0, atol=0)


def test_learning_rates_of_every_group(small):
    model = Sequential(Linear(2, 3), Linear(3, 1))
    first, second = ([*layer.parameters()] for layer in model.children())
    optimizer = torch.optim.SGD([{"params": first}, {"params": second, "lr": 0.5}], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    trainer = Trainer(
        model, small.Squares(), optimizer, schedule=schedule, callbacks=[LearningRates(2)], progress=False
    )
    trainer.fit(small.Points(), 4)
    found = records(trainer, "learning_rates")
    assert [record["step"] for record in found] == [2, 4]
    for record, factor in zip(found, [0.1, 0.01], strict=True):
        assert [record["group 0"], record["group 1"]] == pytest.approx([0.1 * factor, 0.5 * factor])
    with pytest.raises(ValueError, match="every=-1"):
        LearningRates(-1)


def test_tensorboard(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = small.make(tmp_path, callbacks=[TensorBoard()], evaluate=small.validation, evaluate_every=2)
    trainer.fit(small.Points(), 4)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    expected = [record["loss"] for record in trainer.history.training]
    assert [event.value for event in losses] == pytest.approx(expected, rel=1e-6)
    assert [event.step for event in events.Scalars("evaluation/loss")] == [2, 4]
    assert "train/step" not in events.Tags()["scalars"]


def test_tensorboard_after_a_killed_run_shows_each_step_once(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = {"evaluate": small.validation, "evaluate_every": 100, "checkpoint_every": 2}
    dying = small.make(tmp_path, callbacks=[TensorBoard()], **options)
    save, dying.save = dying.save, lambda *path: save(*path) if dying.step == 2 else None  # as if killed after step 5
    dying.fit(small.Points(), 5)
    again = small.make(tmp_path, callbacks=[TensorBoard()], **options)
    again.resume()
    assert again.step == 2
    again.fit(small.Points(), 6)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]


def test_tensorboard_of_a_run_that_has_ended_and_is_resumed_keeps_the_last_step(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        trainer = small.make(tmp_path, callbacks=[TensorBoard()], evaluate=small.validation, evaluate_every=2)
        trainer.resume()
        trainer.fit(small.Points(), 5)  # the second time there is but the evaluation at the end
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    assert {event.step for event in events.Scalars("evaluation/loss")} == {2, 4, 5}
    assert "evaluation/final" not in events.Tags()["scalars"]


def test_tensorboard_that_is_not_installed(monkeypatch):
    original = builtins.__import__

    def without(name, *arguments, **options):
        if "tensorboard" in name:
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match="pip install tensorboard"):
        TensorBoard()
