"""The first transformer's schedule against its formula and a worked example."""

import pytest
import torch
from ds_core import NoamLR
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_twins import THEIRS, close, driven, run


def test_worked_example():
    schedule = NoamLR(driven([1.0]), model_size=4, warmup_steps=4)
    rates = [0.0625, 0.125, 0.1875, 0.25, 0.2236, 0.2041, 0.1890, 0.1768, 0.1667]
    assert schedule.values(9) == pytest.approx(rates, abs=5e-5)
    assert 4**-0.5 == 0.5
    assert 4**-1.5 == 0.125


def test_the_paper():
    """4000 steps of warm-up, width 512: the largest rate is 7e-4."""
    schedule = NoamLR(driven(), 512, 4000)
    rates = schedule.values(8000)
    assert max(rates) == rates[3999] == pytest.approx((512 * 4000) ** -0.5, rel=1e-12)


@given(
    size=st.integers(1, 4096),
    warmup=st.integers(1, 60),
    factor=st.floats(0, 10),
    lrs=st.lists(st.floats(1e-6, 1), min_size=1, max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_is_the_formula_for_every_group(size, warmup, factor, lrs):
    optimizer = driven(lrs)
    rows = run(NoamLR(optimizer, size, warmup, factor), 120)
    for step, found in enumerate(rows, start=1):
        expected = factor * size**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert found[: len(lrs)] == pytest.approx([expected] * len(lrs), rel=1e-12)


def test_goes_on():
    first = NoamLR(driven(), 16, 10)
    rows = run(first, 60)
    resumed = NoamLR(driven(), 16, 10)
    resumed.load_state_dict({"last_epoch": 25, "base_lrs": [1.0, 0.3]})
    assert run(resumed, 35) == rows[25:]
    optimizer = driven()
    for group in optimizer.param_groups:
        group["initial_lr"] = 1.0
    assert run(NoamLR(optimizer, 16, 10, last_epoch=24), 35) == rows[25:]


def test_is_the_lambda_that_torch_would_be_given():
    def noam(step):
        return 2 * 64**-0.5 * min((step + 1) ** -0.5, (step + 1) * 20**-1.5)

    theirs = THEIRS.LambdaLR(driven([1.0], torch.optim.SGD), noam)
    assert run(NoamLR(driven([1.0]), 64, 20, 2), 120) == close(run(theirs, 120))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10), "NoamLR: given model_size=0, expected an integer of at least 1"),
        ((16, 0), "NoamLR: given warmup_steps=0"),
        ((16, 10, -1), "NoamLR: given factor=-1, expected a finite number"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        NoamLR(driven(), *arguments)
