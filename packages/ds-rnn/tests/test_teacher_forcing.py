"""How the share of true tokens falls over a run. What a decoder does with it: test_scheduled_sampling.py."""

import math
import types

import pytest
import torch
from ds_core import AdamW, TokenCrossEntropy, Trainer, no_record
from ds_core.engine.recompute import tape
from ds_rnn import TeacherForcing
from ds_rnn.seq2seq.teacher_forcing import SCHEDULES, _inverse_sigmoid_scale
from seq2seq_twins import PAD, some_model, some_pairs


def test_worked_example():
    # docs/teacher_forcing.md
    model, target = some_model(), torch.tensor([[1, 4, 7, 5]])
    model.teacher_forcing = 0.5
    model.step = lambda tokens, state: torch.nn.functional.one_hot(tokens + 1, 11).double()
    true = torch.tensor([[0.0, 0.9, 0.6, 0.2]]) < 0.5
    with no_record(), tape([true], replay=True):
        assert model._given(target, *model._encode(target)).tolist() == [[1, 2, 3, 5]]
    k = _inverse_sigmoid_scale(1000, 0.25)
    assert k == pytest.approx(161.70, abs=5e-3)
    assert k + 1 == pytest.approx(162.70, abs=5e-3)
    assert 500 / k == pytest.approx(3.0922, abs=5e-5)
    shares = {
        name: [TeacherForcing(model, 0.25, 1000, name).share(step) for step in (0, 500, 1000)] for name in SCHEDULES
    }
    assert shares["linear"] == pytest.approx([1, 0.625, 0.25], rel=0, abs=1e-12)
    assert shares["exponential"] == pytest.approx([1, 0.5, 0.25], rel=0, abs=1e-12)
    assert shares["inverse-sigmoid"] == pytest.approx([0.9939, 0.8801, 0.25], rel=0, abs=6e-5)


@pytest.mark.parametrize("end", [0.01, 0.25, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 7, 1000, 10**6])
def test_schedules_are_those_of_the_paper(end, steps):
    """With the offset, slope or base that the page solves for."""
    some = sorted({0, 1, steps // 3, steps // 2, steps - 1, steps})
    linear, exponential, sigmoid = (SCHEDULES[name] for name in ("linear", "exponential", "inverse-sigmoid"))
    for i in some:
        assert linear(i, steps, end) == pytest.approx(max(end, 1 - (1 - end) / steps * i))
        assert exponential(i, steps, end) == pytest.approx(math.exp(math.log(end) / steps) ** i, rel=1e-9)
    assert sigmoid(steps, steps, end) == pytest.approx(end, rel=1e-9)
    start = sigmoid(0, steps, end)
    k = start / (1 - start)  # e_0 = k / (k + 1)
    for i in some:
        assert sigmoid(i, steps, end) == pytest.approx(k / (k + math.exp(i / k)), rel=1e-6)
    for schedule in SCHEDULES.values():
        values = [schedule(i, steps, end) for i in some]
        assert all(0 <= end - 1e-9 <= value <= 1 for value in values)
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == len(values)


def test_the_linear_schedule_falls_to_0():
    assert SCHEDULES["linear"](10, 10, 0.0) == 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_share_of_1_at_the_end_is_1_all_along(name):
    assert [TeacherForcing(some_model(), 1, 10, name).share(step) for step in (0, 5, 10)] == [1, 1, 1]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run(name, tmp_path):
    """Each step is taken with the share of its number, which the history tells; a run taken up goes on with it."""

    def some_trainer(folder):
        model = some_model()
        source, target = some_pairs()
        forcing, used = TeacherForcing(model, 0.2, 6, name), []
        forward = model._given
        model._given = lambda *given: used.append(model.teacher_forcing) or forward(*given)
        optimizer, criterion = AdamW(model.parameters()), TokenCrossEntropy(ignore_index=PAD)
        trainer = Trainer(model, criterion, optimizer, callbacks=[forcing], folder=folder, progress=False)
        batches = types.SimpleNamespace(batch=lambda index: ((source, target), target.roll(-1, 1)))
        return trainer, batches, used

    torch.manual_seed(0)
    trainer, batches, used = some_trainer(tmp_path / "whole")
    trainer.fit(batches, 6)
    expected = [SCHEDULES[name](step, 6, 0.2) for step in range(6)]
    assert used == pytest.approx(expected, rel=1e-6)
    records = [record for record in trainer.history.records if record["kind"] == "teacher_forcing"]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record["share"] for record in records] == expected
    torch.manual_seed(0)
    trainer, batches, first = some_trainer(tmp_path / "parts")
    trainer.fit(batches, 4)
    trainer, batches, second = some_trainer(tmp_path / "parts")
    trainer.resume()
    trainer.fit(batches, 6)
    assert first + second == used


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 10, "cosine"), "given schedule='cosine', expected one of linear, exponential, inverse-sigmoid"),
        ((1.5, 10), r"given end=1\.5, expected a share of 0 \.\.\. 1"),
        ((-0.5, 10, "exponential"), r"given end=-0\.5, expected a share of above 0, which exponential never reaches"),
        ((0.0, 10, "inverse-sigmoid"), r"given end=0\.0, expected a share of above 0, which inverse-sigmoid never"),
        ((0.5, 0), "given steps=0, expected at least 1"),
    ],
)
def test_impossible_schedules(arguments, message):
    with pytest.raises(ValueError, match=f"TeacherForcing: {message}"):
        TeacherForcing(some_model(), *arguments)
