"""Schedules one after the other and several at once, against torch.optim.lr_scheduler and a worked example."""

import pytest
import torch
from ds_core import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_twins import OURS, RATES, THEIRS, check_schedule, close, driven, row, run

# What can stand in either, by name, with its arguments.
PARTS = [
    ("ConstantLR", (0.3, 4)),
    ("ConstantLR", (0.5, 90)),
    ("StepLR", (7, 0.5)),
    ("MultiStepLR", ([0, 3, 50, 50], 0.7)),
    ("ExponentialLR", (0.97,)),
    ("LinearLR", (0.1, 1.0, 20)),
    ("LinearLR", (1.0, 0.0, 60)),
    ("PolynomialLR", (70, 2.0)),
    ("CosineAnnealingLR", (15, 0.01)),
    ("CosineAnnealingLR", (40, 0.0)),
    ("CosineAnnealingWarmRestarts", (9, 2, 0.001)),
]


def parts(module, optimizer, chosen):
    return [getattr(module, name)(optimizer, *arguments) for name, arguments in chosen]


def test_worked_example():
    optimizer = driven([0.8])
    warm_up = LinearLR(optimizer, start_factor=0.25, total_iters=3)
    schedule = SequentialLR(optimizer, [warm_up, ExponentialLR(optimizer, 0.5)], milestones=[3])
    assert schedule.values(6) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.4, 0.2])
    optimizer = driven([0.8])
    chain = ChainedScheduler([ConstantLR(optimizer, 0.25, 2), ExponentialLR(optimizer, 0.5)])
    assert chain.values(4) == pytest.approx([0.2, 0.1, 0.2, 0.1])
    optimizer = driven([0.8])
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), CosineAnnealingLR(optimizer, 2, 0.08)])
    assert chain.values(3) == pytest.approx([0.8, 0.24, 0.08])
    # of the 0.4 that the first leaves, 0.32 are above the bottom, and the cosine halves them
    above = 0.4 - 0.08
    assert [above, 0.08 + above / 2] == pytest.approx([0.32, 0.24])


@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("second", PARTS[::3])
def test_two_in_sequence(first, second):
    check_schedule(lambda module, opt: module.SequentialLR(opt, parts(module, opt, [first, second]), [25]), pause=40)


@pytest.mark.parametrize("milestones", [[0, 30], [30, 30], [1, 2], [40, 200]])
def test_three_in_sequence(milestones):
    chosen = [PARTS[5], PARTS[8], PARTS[4]]
    for pause in (0, 1, 30, 35):
        check_schedule(
            lambda module, opt: module.SequentialLR(opt, parts(module, opt, chosen), milestones), pause=pause
        )


@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("second", PARTS)
def test_two_in_a_chain(first, second):
    def make(module, optimizer):
        return module.ChainedScheduler(parts(module, optimizer, [first, second]))

    ours = make(OURS, driven())
    assert run(ours, 120) == close(run(make(THEIRS, driven(kind=torch.optim.SGD)), 120))


def test_a_chain_in_every_respect():
    chosen = [PARTS[0], PARTS[4], PARTS[8], PARTS[2]]
    check_schedule(lambda module, opt: module.ChainedScheduler(parts(module, opt, chosen)), rates=(0.7, 0.2, 1e-3))
    check_schedule(lambda module, opt: module.ChainedScheduler(parts(module, opt, chosen[:1]), opt))


@given(chosen=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), data=st.data())
@settings(max_examples=30, deadline=None)
def test_any_sequence_and_any_chain(chosen, data):
    lrs = data.draw(st.lists(st.floats(1e-4, 2), min_size=1, max_size=3))
    size = len(chosen) - 1
    milestones = sorted(data.draw(st.lists(st.integers(1, 90), min_size=size, max_size=size)))
    for make in (
        lambda module, opt: module.SequentialLR(opt, parts(module, opt, chosen), milestones),
        lambda module, opt: module.ChainedScheduler(parts(module, opt, chosen)),
    ):
        assert run(make(OURS, driven(lrs)), 100) == close(run(make(THEIRS, driven(lrs, torch.optim.SGD)), 100))


def test_a_sequence_in_a_chain():
    def make(module, opt):
        sequence = module.SequentialLR(opt, parts(module, opt, [PARTS[5], PARTS[8]]), [25])
        return module.ChainedScheduler([sequence, module.ExponentialLR(opt, 0.99)])

    check_schedule(make)


def test_a_chain_in_a_sequence():
    """Which the twin cannot do."""

    def make(optimizer):
        chain = ChainedScheduler(parts(OURS, optimizer, [PARTS[0], PARTS[4]]))
        return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, 1.0, 20), chain], [20])

    optimizer = driven()
    alone = ChainedScheduler(parts(OURS, optimizer, [PARTS[0], PARTS[4]])).trajectory(30)
    schedule = make(driven())
    rows = [found[:2] for found in run(schedule, 49)]
    assert rows[20:] == alone
    assert rows[:20] == LinearLR(driven(), 0.1, 1.0, 20).trajectory(20)
    resumed = make(driven([9.0, 8.0]))
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.get_last_lr() == rows[-1]


def test_momentum_is_that_of_the_last_whose_turn_it_was():
    def make(optimizer):
        cycles = [OneCycleLR(optimizer, 0.4, 10, base_momentum=low, max_momentum=low + 0.1) for low in (0.2, 0.4, 0.6)]
        return SequentialLR(optimizer, [*cycles, StepLR(optimizer, 5)], [10, 20, 30])

    rows = run(make(driven()), 40)
    assert [found[2] for found in (rows[0], rows[2], rows[10], rows[12], rows[31], rows[40])] == pytest.approx(
        [0.3, 0.2, 0.5, 0.4, rows[30][2], rows[30][2]]
    )
    for pause in (0, 5, 13, 20, 33):
        paused, resumed = make(driven()), make(driven())
        run(paused, pause)
        run(resumed, 25)
        resumed.load_state_dict(paused.state_dict())
        assert run(resumed, 40 - pause) == rows[pause:]


def test_one_cycle_sets_momentum_in_a_chain_too():
    optimizer = driven()
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.5), OneCycleLR(optimizer, 0.4, 20)])
    assert run(chain, 20) == run(OneCycleLR(driven(), 0.4, 20), 20)


def test_last_epoch():
    def make(optimizer, last):
        return SequentialLR(optimizer, parts(OURS, optimizer, [PARTS[5], PARTS[8]]), [25], last)

    rows = run(make(driven(), -1), 60)
    for last in (0, 23, 24, 40):
        assert run(make(driven(), last), 59 - last) == rows[last + 1 :]


def test_a_chain_of_schedules_that_have_stepped():
    optimizer = driven()
    schedules = parts(OURS, optimizer, [PARTS[0], PARTS[4]])
    for _ in range(6):
        for schedule in schedules:
            schedule.step()
    chain = ChainedScheduler(schedules)
    assert chain.last_epoch == 6
    assert row(optimizer)[:2] == pytest.approx([rate * 0.97**6 for rate in RATES])
    schedules[0].step()
    with pytest.raises(ValueError, match=r"given schedulers at steps \[6, 7\], expected all at one step"):
        ChainedScheduler(schedules)


def test_a_factor_of_zero_cannot_be_undone_in_a_chain():
    optimizer = driven()
    chain = ChainedScheduler([ConstantLR(optimizer, 0, 2), ExponentialLR(optimizer, 0.5)])
    chain.step()
    with pytest.raises(ValueError, match=r"from a factor of 0 to 1.0 at step 2, which no chain can undo"):
        chain.step()


def test_a_state_of_others_changes_nothing():
    optimizer = driven()
    sequence = SequentialLR(optimizer, parts(OURS, optimizer, PARTS[:2]), [5])
    state = sequence.state_dict()
    run(sequence, 3)
    before = [sequence.state_dict(), row(optimizer)]
    with pytest.raises(ValueError, match="SequentialLR: given a state of 1 schedulers, expected 2"):
        sequence.load_state_dict({**state, "schedulers": state["schedulers"][:1]})
    with pytest.raises(ValueError, match="ConstantLR: given a state of 1 parameter groups, the optimizer has 2"):
        sequence.load_state_dict(
            {**state, "schedulers": [state["schedulers"][0], {"last_epoch": 0, "base_lrs": [1.0]}]}
        )
    with pytest.raises(KeyError):
        sequence.load_state_dict({"schedulers": state["schedulers"]})
    assert [sequence.state_dict(), row(optimizer)] == before


@pytest.mark.parametrize(
    ("schedulers", "milestones", "error", "message"),
    [
        ([], [], ValueError, "expects at least one scheduler"),
        ([object()], [], TypeError, "at index 0 should have `optimizer` as its attribute"),
        (lambda own, other: [StepLR(own, 2), ReduceLROnPlateau(own)], [3], ValueError, "at index 1 in the given"),
        (lambda own, other: [StepLR(own, 2), StepLR(other, 2)], [3], ValueError, "StepLR at index 1 of another SGD"),
        (lambda own, other: [THEIRS.StepLR(own, 2)], [], TypeError, "given a StepLR at index 0, expected a Schedule"),
    ],
)
def test_impossible_parts_are_named(schedulers, milestones, error, message):
    own, other = driven(kind=torch.optim.SGD), driven(kind=torch.optim.SGD)
    given_ = schedulers(own, other) if callable(schedulers) else schedulers
    with pytest.raises(error, match=message):
        SequentialLR(own, given_, milestones)
    with pytest.raises(error, match=message):
        ChainedScheduler(given_)


@pytest.mark.parametrize(
    ("milestones", "last_epoch", "message"),
    [
        ([], -1, "number of schedulers 2 and the number of milestones to be equal to 0"),
        ([3, 4], -1, "number of milestones to be equal to 2"),
        ([-1], -1, r"given milestones=\[-1\], expected ascending numbers from 0 on"),
        ([3], -2, "SequentialLR: given last_epoch=-2, expected at least -1"),
    ],
)
def test_impossible_milestones_are_named(milestones, last_epoch, message):
    optimizer = driven()
    with pytest.raises(ValueError, match=message):
        SequentialLR(optimizer, parts(OURS, optimizer, PARTS[:2]), milestones, last_epoch)
    with pytest.raises(ValueError, match="expected ascending numbers"):
        SequentialLR(optimizer, parts(OURS, optimizer, PARTS[:3]), [4, 3])
