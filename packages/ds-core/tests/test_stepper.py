"""A compiled step has changed the weights before its loss is seen: how the fault is found all the same."""

import math

import ds_core.training.stepper
import pytest
import torch
from ds_core import Linear, Module, Sequential, Trainer, whole_step
from ds_core.errors import NonFiniteError
from ds_core.training.checkpoint import describe_checkpoint
from squared_error import Squares


class Cube(Module):
    """x^3, infinite for large inputs."""

    def forward(self, x):
        self.save(x)
        return x**3

    def backward(self, dy):
        (x,) = self.saved()
        return dy * 3 * x**2


class Points:
    def __init__(self, bad):
        self.bad = bad

    def batch(self, index):
        return torch.full((2, 2), 1e20 if index == self.bad else 0.1), torch.zeros(2, 1)


def make(folder):
    torch.manual_seed(0)
    model = Sequential(Linear(2, 2), Cube(), Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Trainer(
        model, Squares(), optimizer, compile=True, folder=folder, checkpoint_every=3, clip_norm=1.0, progress=False
    )


@pytest.fixture
def uncompiled(monkeypatch):
    """The step that would be compiled, as it is: what is tested here is what follows it."""
    monkeypatch.setattr(ds_core.training.stepper, "compile_step", whole_step)


@pytest.mark.usefixtures("uncompiled")
def test_steps_since_the_checkpoint_are_repeated(tmp_path):
    trainer = make(tmp_path)
    with pytest.raises(
        NonFiniteError, match=r"^step 6: the loss is inf; the first layer whose output is not finite is 1 \("
    ) as e:
        trainer.fit(Points(bad=5), 9)
    assert "weights that are not finite" not in str(e.value)
    assert describe_checkpoint(tmp_path / "checkpoint.safetensors").step == 3


@pytest.mark.usefixtures("uncompiled")
def test_without_a_checkpoint_the_spoiled_weights_are_named():
    with pytest.raises(
        NonFiniteError, match=r"is 0 \(Linear.*\(weights that are not finite: 0\.weight, 0\.bias, 2\.weight\)"
    ):
        make(None).fit(Points(bad=1), 9)


def test_only_the_compiled_step_is_not_finite(tmp_path, monkeypatch):
    def wrong(model, criterion, optimizer, *, clip_norm):
        step, count = whole_step(model, criterion, optimizer, clip_norm=clip_norm), [0]

        def run(batches):
            loss, norm = step(batches)
            count[0] += 1
            if count[0] == 5:
                with torch.no_grad():
                    model[0].weight[0, 0] = math.nan
                return loss * math.nan, norm
            return loss, norm

        return run

    monkeypatch.setattr(ds_core.training.stepper, "compile_step", wrong)
    with pytest.raises(
        NonFiniteError, match="step 5: the loss is nan; repeated eagerly from step 3, every step is finite"
    ):
        make(tmp_path).fit(Points(bad=None), 9)


def test_batches_that_are_a_list(small):
    trainer = small.make()
    with pytest.raises(TypeError, match=r"given a list, expected batches .* ds_core\.data\.Loader"):
        trainer.fit([small.Points().batch(0)], 1)
