"""The training loop: what it does in which order, and what it does when something goes wrong."""

import math
import os
import random
import signal

import ds_core.checkpoint
import numpy as np
import pytest
import torch
from ds_core import Linear, Module, Sequential
from ds_core.batches import Batches
from ds_core.callbacks import Callback, EarlyStopping
from ds_core.checkpoint import describe_checkpoint
from ds_core.errors import CheckpointError, Interrupted, NonFiniteError, UserError, WriteError
from ds_core.trainer import Trainer
from safetensors import SafetensorError


class Absolute(Module):
    def forward(self, x):
        self.save(x)
        return x.abs()

    def backward(self, dy):
        (x,) = self.saved()
        return None if dy is None else dy * x.sign()


class Noise(Module):
    """Multiplied by random numbers while training."""

    def forward(self, x):
        factor = torch.rand_like(x) + 0.5 if self.training else torch.ones_like(x)
        self.save(factor)
        return x * factor

    def backward(self, dy):
        (factor,) = self.saved()
        return None if dy is None else dy * factor


class Squares(Module):
    def forward(self, input, target):
        self.save(input - target)
        return (input - target).square().mean()

    def backward(self, grad=None):
        (difference,) = self.saved()
        gradient = 2 * difference / difference.numel()
        return gradient if grad is None else gradient * grad


class Points:
    """y = x_1 - x_2; from step `bad` on the inputs are enormous, and their squared errors infinite."""

    def __init__(self, bad=None):
        self.bad = bad
        self.asked = []

    def batch(self, index):
        self.asked.append(index)
        generator = torch.Generator().manual_seed(index)
        x = torch.rand(4, 2, generator=generator)
        y = x[:, :1] - x[:, 1:]
        return (x if self.bad is None or index < self.bad else x * 1e25), y


def make(folder=None, **options):
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    model = Sequential(Linear(2, 5), Absolute(), Noise(), Linear(5, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    options = {"progress": False, "schedule": schedule, **options}
    return Trainer(model, Squares(), optimizer, folder=folder, **options)


def weights(trainer):
    return torch.cat([tensor.detach().reshape(-1) for tensor in trainer.model.parameters()])


def validation(model):
    assert not any(module.training for module in model.modules())
    assert not torch.is_grad_enabled()
    torch.rand(1), random.random(), np.random.rand()
    x, y = Points().batch(10**6)
    return {"loss": (model(x) - y).square().mean()}


def test_a_step_is_that_of_pytorch():
    trainer = make(clip_norm=0.05)
    trainer.fit(Points(), 6)

    other = make()
    model, optimizer = other.model, other._stepper.optimizer
    schedule = other._stepper.schedule
    for step in range(6):
        x, y = Points().batch(step)
        (model(x) - y).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    torch.testing.assert_close(weights(trainer), weights(other), rtol=1e-5, atol=1e-6)
    records = trainer.history.training
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["learning_rate"] for record in records] == pytest.approx([0.01] * 4 + [0.005] * 2)
    assert all(record["gradient_norm"] > 0 for record in records)
    assert records[-1]["seconds"] == pytest.approx(trainer.seconds, abs=1e-3)
    assert all(tensor.grad is None for tensor in model.parameters())


def test_it_learns():
    trainer = make(schedule=None, evaluate=validation)
    history = trainer.fit(Points(), 300)
    assert history.evaluations[-1]["loss"] < 0.02
    assert trainer.best == {"step": 300, "loss": history.evaluations[-1]["loss"]}


def test_accumulation_takes_consecutive_batches():
    points = Points()
    assert isinstance(points, Batches)
    trainer = make(accumulate=3)
    trainer.fit(points, 2)
    assert points.asked == [0, 1, 2, 3, 4, 5]
    assert "gradient_norm" not in trainer.history.training[0]


def test_evaluation_changes_nothing_in_training():
    plain = make()
    plain.fit(Points(), 7)
    evaluated = make(evaluate=validation, evaluate_every=2)
    evaluated.fit(Points(), 7)
    assert torch.equal(weights(plain), weights(evaluated))
    assert [record["step"] for record in evaluated.history.evaluations] == [2, 4, 6, 7]
    assert all(module.training for module in evaluated.model.modules())


def test_evaluation_that_fails_leaves_training_mode():
    def fails(model):
        raise RuntimeError("no")

    trainer = make(evaluate=fails)
    with pytest.raises(RuntimeError, match="no"):
        trainer.fit(Points(), 1)
    assert all(module.training for module in trainer.model.modules())
    assert torch.is_grad_enabled()


def test_callbacks_and_early_stopping(capsys):
    seen = []

    class Watch:
        def on_step_end(self, trainer, metrics):
            seen.append((trainer.step, metrics["step"]))

    trainer = make(
        callbacks=[Watch(), Callback(), EarlyStopping(patience=2)],
        evaluate=lambda model: {"loss": 1.0},
        evaluate_every=1,
        progress=True,
    )
    trainer.fit(Points(), 10)
    assert trainer.step == 3
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert trainer.stopped == "loss has not become better than 1 for 2 evaluations"
    assert "stopping after step 3: loss has not" in capsys.readouterr().err
    trainer.fit(Points(), 10)
    assert trainer.step == 3


def test_a_run_that_stopped_early_stays_stopped(tmp_path, capsys):
    options = {"evaluate": lambda model: {"loss": 1.0}, "evaluate_every": 1, "folder": tmp_path}
    make(callbacks=[EarlyStopping(patience=1)], **options).fit(Points(), 10)
    trainer = make(callbacks=[EarlyStopping(patience=1)], progress=True, **options)
    trainer.resume()
    assert "the run had ended early: loss has not become better" in capsys.readouterr().err
    trainer.fit(Points(), 10)
    assert trainer.step == 2


def test_progress_and_notes(capsys):
    class Sample(Callback):
        def on_evaluate(self, trainer, metrics):
            trainer.write("sample")

    make(progress=True, callbacks=[Sample()], evaluate=validation).fit(Points(), 3)
    out, err = capsys.readouterr()
    assert out == "sample\n"
    assert "3/3" in err
    assert "step 3: loss 0." in err


@pytest.mark.parametrize(
    "options", [{"accumulate": 0}, {"evaluate_every": 0}, {"checkpoint_every": -1}, {"clip_norm": 0.0}]
)
def test_impossible_arguments(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"Trainer: given {name}="):
        make(**options)


def test_checkpoints_with_evaluations_and_at_the_end(tmp_path, monkeypatch):
    saved = []
    original = ds_core.trainer.save_checkpoint
    monkeypatch.setattr(
        ds_core.trainer, "save_checkpoint", lambda *a, **k: (saved.append(k["step"]), original(*a, **k))
    )
    make(tmp_path / "a", evaluate=validation, evaluate_every=2).fit(Points(), 5)
    make(tmp_path / "b", checkpoint_every=3).fit(Points(), 7)
    make(tmp_path / "c").fit(Points(), 2)
    assert saved == [2, 4, 5, 3, 6, 7, 2]
    assert sorted(os.listdir(tmp_path / "a")) == ["checkpoint.safetensors", "log.jsonl"]


def test_resume_and_train_longer(tmp_path):
    whole = make(tmp_path / "whole", evaluate=validation, evaluate_every=2)
    whole.fit(Points(), 8)
    first = make(tmp_path / "parts", evaluate=validation, evaluate_every=2)
    first.fit(Points(), 4)
    second = make(tmp_path / "parts", evaluate=validation, evaluate_every=2)
    assert second.resume()
    assert second.step == 4
    assert second.fit(Points(), 8) is second.history
    assert torch.equal(weights(whole), weights(second))
    assert second.best == whole.best
    strip = [[{**r, "seconds": 0} for r in trainer.history.records] for trainer in (whole, second)]
    assert strip[0] == strip[1]
    third = make(tmp_path / "parts")
    third.resume()
    with pytest.raises(UserError, match="at step 8 already, beyond the 5 steps asked for"):
        third.fit(Points(), 5)


def test_resume_before_the_first_checkpoint(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "step": 1, "loss": 1.0}\n')
    trainer = make(tmp_path, progress=True)
    assert trainer.resume() is False
    assert "holds no checkpoint yet: starting from step 0" in capsys.readouterr().err
    trainer.fit(Points(), 2)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_resume_mistakes(tmp_path):
    with pytest.raises(ValueError, match="needs a folder"):
        make().resume()
    with pytest.raises(CheckpointError, match="there is no such file"):
        make().resume(tmp_path / "no")
    make(tmp_path).fit(Points(), 1)
    with pytest.raises(CheckpointError, match="no state for the callback EarlyStopping"):
        make(tmp_path, callbacks=[EarlyStopping()]).resume()
    model = make().model
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.raises(CheckpointError, match="has StepLR as schedule, this run ExponentialLR"):
        Trainer(model, Squares(), optimizer, schedule=schedule, folder=tmp_path).resume()


def test_resume_from_elsewhere_into_a_new_folder(tmp_path, capsys):
    make(tmp_path / "a").fit(Points(), 3)
    trainer = make(tmp_path / "b", progress=True)
    trainer.resume(tmp_path / "a" / "checkpoint.safetensors")
    trainer.fit(Points(), 3)
    assert describe_checkpoint(tmp_path / "b" / "checkpoint.safetensors").step == 3
    assert "the log holds only 0 of the 3 steps before" in capsys.readouterr().err


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    make(tmp_path).fit(Points(), 2)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UserError, match="already holds a run: resume"):
        make(tmp_path).fit(Points(), 1)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"cannot use .*run: Not a directory"):
        make(tmp_path / "file" / "run").fit(Points(), 1)


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    (tmp_path / ".checkpoint.safetensors.77.tmp").mkdir()
    (tmp_path / ".checkpoint.safetensors.77.tmp" / "checkpoint.safetensors").write_bytes(b"half")
    make(tmp_path).fit(Points(), 1)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.safetensors", "log.jsonl"]


def test_full_disk_at_a_checkpoint(tmp_path, monkeypatch):
    make(tmp_path).fit(Points(), 2)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    trainer = make(tmp_path)
    trainer.resume()
    monkeypatch.setattr(ds_core.checkpoint, "save_file", full)
    with pytest.raises(WriteError, match=r"No space left on device.*; what it held before is still there"):
        trainer.fit(Points(), 4)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_loss_that_is_not_finite_names_the_layer_and_keeps_weights_and_checkpoint(tmp_path, clip_norm):
    good = make(tmp_path / "good", clip_norm=clip_norm)
    good.fit(Points(), 5)
    trainer = make(tmp_path / "bad", clip_norm=clip_norm, checkpoint_every=2)
    with pytest.raises(NonFiniteError) as error:
        trainer.fit(Points(bad=5), 9)
    message = str(error.value)
    assert message.startswith(
        "step 6: the loss is inf; every layer's output is finite, the loss Squares() is not; the last"
    )
    assert message.endswith(f"the last good checkpoint is {tmp_path / 'bad' / 'checkpoint.safetensors'}")
    assert "\n" not in message
    assert torch.equal(weights(trainer), weights(good))  # the step was not taken
    assert describe_checkpoint(tmp_path / "bad" / "checkpoint.safetensors").step == 4
    assert len(trainer.history.training) == 5


def test_a_layer_that_is_not_finite_by_chance_is_found_again():
    class Rarely(Module):
        """NaN when a random number is small: only the same random numbers show it again."""

        def forward(self, x):
            self.save()
            return x * math.nan if torch.rand(()) < 0.05 else x

        def backward(self, dy):
            self.saved()
            return dy

    model = Sequential(Linear(2, 2), Noise(), Rarely(), Linear(2, 1))
    torch.manual_seed(0)
    trainer = Trainer(model, Squares(), torch.optim.SGD(model.parameters(), lr=0.01), progress=False)
    with pytest.raises(
        NonFiniteError, match=r"the loss is nan; .* output is not finite is 2 \(Rarely\(\)\); there is no"
    ):
        trainer.fit(Points(), 1000)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class Spoil(Callback):
        def on_step_end(self, trainer, metrics):
            if trainer.step == 4:
                with torch.no_grad():
                    trainer.model[0].bias[0] = math.nan

    with pytest.raises(NonFiniteError, match=r"after step 4 weights are not finite: 0.bias; the last good"):
        make(tmp_path, checkpoint_every=2, callbacks=[Spoil()]).fit(Points(), 8)
    assert describe_checkpoint(tmp_path / "checkpoint.safetensors").step == 2


class Press(Callback):
    """Presses Ctrl-C in a step."""

    def __init__(self, step, number=signal.SIGINT):
        self.step, self.number = step, number

    def on_step_end(self, trainer, metrics):
        if trainer.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 4, 6])
def test_interrupted_finishes_the_step_saves_and_goes_on_later(tmp_path, number, step, capfd):
    options = {"evaluate": validation, "evaluate_every": 2}
    whole = make(**options)
    whole.fit(Points(), 6)
    trainer = make(tmp_path, callbacks=[Press(step, number)], **options)
    with pytest.raises(
        Interrupted, match=rf"stopped after step {step} of 6; saved in .*checkpoint\.safetensors"
    ) as stop:
        trainer.fit(Points(), 6)
    assert isinstance(stop.value, KeyboardInterrupt)
    assert "finishing this step, then saving; Ctrl-C again stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert describe_checkpoint(tmp_path / "checkpoint.safetensors").step == step
    again = make(tmp_path, **options)
    again.resume()
    again.fit(Points(), 6)
    assert torch.equal(weights(whole), weights(again))
    assert [record["step"] for record in again.history.evaluations] == [2, 4, 6]
    assert again.best == whole.best
    assert describe_checkpoint(tmp_path / "checkpoint.safetensors").extra["trainer"]["evaluated"] == 6


def test_interrupted_twice_stops_at_once(tmp_path):
    trainer = make(tmp_path, callbacks=[Press(3), Press(3)])
    with pytest.raises(KeyboardInterrupt) as stop:
        trainer.fit(Points(), 6)
    assert not isinstance(stop.value, Interrupted)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_interrupted_without_a_folder():
    with pytest.raises(Interrupted, match="stopped after step 2 of 6; without a folder nothing was saved"):
        make(callbacks=[Press(2)]).fit(Points(), 6)
