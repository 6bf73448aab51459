"""The training loop: what it does in which order, and what it does when something goes wrong."""

import math
import os
import re
import signal

import pytest
import torch
from ds_core import AdamW, Callback, EarlyStopping, Linear, Module, MSELoss, Sequential, Trainer, compile_step
from ds_core.data.batches import Batches
from ds_core.errors import Interrupted, NonFiniteError
from ds_core.training.checkpoint import describe_checkpoint


def test_a_step_is_that_of_pytorch(small):
    trainer = small.make(clip_norm=0.05)
    trainer.fit(small.Points(), 6)

    other = small.make()
    model, optimizer = other.model, other._stepper.optimizer
    schedule = other._stepper.schedule
    for step in range(6):
        x, y = small.Points().batch(step)
        (model(x) - y).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    torch.testing.assert_close(small.weights(trainer), small.weights(other), rtol=1e-5, atol=1e-6)
    records = trainer.history.training
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["learning_rate"] for record in records] == pytest.approx([0.01] * 4 + [0.005] * 2)
    assert all(record["gradient_norm"] > 0 for record in records)
    assert records[-1]["seconds"] == pytest.approx(trainer.seconds, abs=1e-3)
    assert all(tensor.grad is None for tensor in model.parameters())


def test_it_learns(small):
    trainer = small.make(schedule=None, evaluate=small.validation)
    history = trainer.fit(small.Points(), 300)
    assert history.evaluations[-1]["loss"] < 0.02
    assert trainer.best == {"step": 300, "loss": history.evaluations[-1]["loss"]}


def test_accumulation_takes_consecutive_batches(small):
    points = small.Points()
    assert isinstance(points, Batches)
    trainer = small.make(accumulate=3)
    trainer.fit(points, 2)
    assert points.asked == [0, 1, 2, 3, 4, 5]
    assert "gradient_norm" not in trainer.history.training[0]


def test_evaluation_changes_nothing_in_training(small):
    plain = small.make()
    plain.fit(small.Points(), 7)
    evaluated = small.make(evaluate=small.validation, evaluate_every=2)
    evaluated.fit(small.Points(), 7)
    assert torch.equal(small.weights(plain), small.weights(evaluated))
    assert [record["step"] for record in evaluated.history.evaluations] == [2, 4, 6, 7]
    assert all(module.training for module in evaluated.model.modules())


def test_evaluation_that_fails_leaves_training_mode(small):
    def fails(model):
        raise RuntimeError("no")

    trainer = small.make(evaluate=fails)
    with pytest.raises(RuntimeError, match="no"):
        trainer.fit(small.Points(), 1)
    assert all(module.training for module in trainer.model.modules())
    assert torch.is_grad_enabled()


def test_callbacks_and_early_stopping(small, capsys):
    seen = []

    class Watch:
        def on_step_end(self, trainer, metrics):
            seen.append((trainer.step, metrics["step"]))

    trainer = small.make(
        callbacks=[Watch(), Callback(), EarlyStopping(patience=2)],
        evaluate=lambda model: {"loss": 1.0},
        evaluate_every=1,
        progress=True,
    )
    trainer.fit(small.Points(), 10)
    assert trainer.step == 3
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert trainer.stopped == "loss has not become better than 1 for 2 evaluations"
    assert "stopping after step 3: loss has not" in capsys.readouterr().err
    trainer.fit(small.Points(), 10)
    assert trainer.step == 3


def test_progress_and_notes(small, capsys):
    class Sample(Callback):
        def on_evaluate(self, trainer, metrics):
            trainer.write("sample")

    small.make(progress=True, callbacks=[Sample()], evaluate=small.validation).fit(small.Points(), 3)
    out, err = capsys.readouterr()
    assert out == "sample\n"
    assert "3/3" in err
    assert "step 3: loss 0." in err


@pytest.mark.parametrize(
    "options", [{"accumulate": 0}, {"evaluate_every": 0}, {"checkpoint_every": -1}, {"clip_norm": 0.0}]
)
def test_impossible_arguments(small, options):
    (name,) = options
    with pytest.raises(ValueError, match=f"Trainer: given {name}="):
        small.make(**options)


def test_what_a_trainer_and_a_compiled_step_can_be_made_of():
    model, loss = Linear(2, 1), MSELoss()
    optimizer = AdamW(model.parameters())
    torch_model, torch_loss = torch.nn.Linear(2, 1), torch.nn.MSELoss()
    wrong = [
        ((None, loss, optimizer), "model: given None, expected a layer such as Sequential(...)"),
        ((torch_model, loss, optimizer), "model: given a torch.nn.modules.linear.Linear, which has no backward"),
        ((Linear, loss, optimizer), "model: given the class Linear, expected a layer: write Linear(...)"),
        ((model, None, optimizer), "criterion: given None, expected a loss such as MSELoss()"),
        ((model, torch_loss, optimizer), "criterion: given a torch.nn.modules.loss.MSELoss, which has no backward"),
        ((model, MSELoss, optimizer), "criterion: given the class MSELoss, expected a layer: write MSELoss(...)"),
        (
            (model, loss, None),
            "optimizer: given None, expected an optimizer such as AdamW(model.parameters(), ",
        ),
        ((model, loss, AdamW), "optimizer: given the class AdamW, expected an optimizer such as AdamW(model."),
        ((model, loss, 0.1), "optimizer: given 0.1, expected an optimizer such as"),
        ((model, loss, model.parameters()), "optimizer: given <"),
    ]
    for who in (Trainer, compile_step):
        for parts, message in wrong:
            with pytest.raises(TypeError, match=re.escape(f"{who.__name__}: {message}")) as raised:
                who(*parts)
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_loss_that_is_not_finite_names_the_layer_and_keeps_weights_and_checkpoint(small, tmp_path, clip_norm):
    good = small.make(tmp_path / "good", clip_norm=clip_norm)
    good.fit(small.Points(), 5)
    trainer = small.make(tmp_path / "bad", clip_norm=clip_norm, checkpoint_every=2)
    with pytest.raises(NonFiniteError) as error:
        trainer.fit(small.Points(bad=5), 9)
    message = str(error.value)
    assert message.startswith(
        "step 6: the loss is inf; every layer's output is finite, the loss Squares() is not; the last"
    )
    assert message.endswith(f"the last good checkpoint is {tmp_path / 'bad' / 'checkpoint.safetensors'}")
    assert "\n" not in message
    assert torch.equal(small.weights(trainer), small.weights(good))  # the step was not taken
    assert describe_checkpoint(tmp_path / "bad" / "checkpoint.safetensors").step == 4
    assert len(trainer.history.training) == 5


def test_a_layer_that_is_not_finite_by_chance_is_found_again(small):
    class Rarely(Module):
        """NaN when a random number is small: only the same random numbers show it again."""

        def forward(self, x):
            self.save()
            return x * math.nan if torch.rand(()) < 0.05 else x

        def backward(self, dy):
            self.saved()
            return dy

    model = Sequential(Linear(2, 2), small.Noise(), Rarely(), Linear(2, 1))
    torch.manual_seed(0)
    trainer = Trainer(model, small.Squares(), torch.optim.SGD(model.parameters(), lr=0.01), progress=False)
    with pytest.raises(
        NonFiniteError, match=r"the loss is nan; .* output is not finite is 2 \(Rarely\(\)\); there is no"
    ):
        trainer.fit(small.Points(), 1000)


def test_weights_that_are_not_finite_are_never_saved(small, tmp_path):
    class Spoil(Callback):
        def on_step_end(self, trainer, metrics):
            if trainer.step == 4:
                with torch.no_grad():
                    trainer.model[0].bias[0] = math.nan

    with pytest.raises(NonFiniteError, match=r"after step 4 weights are not finite: 0.bias; the last good"):
        small.make(tmp_path, checkpoint_every=2, callbacks=[Spoil()]).fit(small.Points(), 8)
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
def test_interrupted_finishes_the_step_saves_and_goes_on_later(small, tmp_path, number, step, capfd):
    before = signal.getsignal(signal.SIGINT)  # a job in the background ignores it
    options = {"evaluate": small.validation, "evaluate_every": 2}
    whole = small.make(**options)
    whole.fit(small.Points(), 6)
    trainer = small.make(tmp_path, callbacks=[Press(step, number)], **options)
    with pytest.raises(
        Interrupted, match=rf"stopped after step {step} of 6; saved in .*checkpoint\.safetensors"
    ) as stop:
        trainer.fit(small.Points(), 6)
    assert isinstance(stop.value, KeyboardInterrupt)
    assert "finishing this step, then saving; Ctrl-C again stops at once" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) == before
    assert describe_checkpoint(tmp_path / "checkpoint.safetensors").step == step
    again = small.make(tmp_path, **options)
    again.resume()
    again.fit(small.Points(), 6)
    assert torch.equal(small.weights(whole), small.weights(again))
    assert [record["step"] for record in again.history.evaluations] == [2, 4, 6]
    assert again.best == whole.best
    assert describe_checkpoint(tmp_path / "checkpoint.safetensors").extra["trainer"]["evaluated"] == 6


def test_interrupted_twice_stops_at_once(small, tmp_path):
    trainer = small.make(tmp_path, callbacks=[Press(3), Press(3)])
    with pytest.raises(KeyboardInterrupt) as stop:
        trainer.fit(small.Points(), 6)
    assert not isinstance(stop.value, Interrupted)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_interrupted_without_a_folder(small):
    with pytest.raises(Interrupted, match="stopped after step 2 of 6; without a folder nothing was saved"):
        small.make(callbacks=[Press(2)]).fit(small.Points(), 6)


def test_an_optimizer_of_another_model_is_refused():
    model, other = Linear(2, 1), Linear(2, 1)
    for optimizer in (AdamW(other.parameters()), torch.optim.SGD(other.parameters())):
        with pytest.raises(ValueError, match=r"none of the 2 tensors that .* moves is a parameter of Linear: make the"):
            Trainer(model, MSELoss(), optimizer)
    Trainer(model, MSELoss(), AdamW([model.weight, *other.parameters()]))
