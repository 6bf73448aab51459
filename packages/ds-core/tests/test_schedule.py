"""What all schedules have from their base, and the picture of one."""

import builtins
import json
import re
from pathlib import Path

import pytest
import torch
from ds_core import (
    SGD,
    ChainedScheduler,
    ExponentialLR,
    Linear,
    NoamLR,
    OneCycleLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
    load_checkpoint,
    plot_schedule,
    save_checkpoint,
)
from ds_core.errors import MissingPackageError, WriteError
from ds_core.schedules.schedule import FactorSchedule
from schedule_twins import driven, row, run


class Halving(Schedule):
    def rate(self, step, base):
        return base / 2**step


class Shrinking(FactorSchedule):
    def factor(self, step):
        return 1 / (1 + step)


def test_worked_example():
    schedule = Shrinking(driven([0.9, 0.6]))
    assert schedule.trajectory(3) == [[0.9, 0.6], [0.45, 0.3], [pytest.approx(0.3), pytest.approx(0.2)]]
    assert schedule.moved(0, [0.9, 0.6]) == [0.9, 0.6]
    assert schedule.moved(2, [0.45, 0.3]) == pytest.approx([0.3, 0.2])
    assert schedule.factor(1) == 0.5
    assert schedule.factor(2) / schedule.factor(1) == pytest.approx(0.6667, abs=5e-5)


def test_a_schedule_of_ones_own():
    schedule = Halving(driven([4.0]))
    assert schedule.values(3) == [4.0, 2.0, 1.0]
    schedule.step()
    assert schedule.get_last_lr() == [2.0]
    schedule.go_to(3)
    assert row(schedule.optimizer)[0] == 0.5
    for kind, missing in ((Schedule, "rate"), (FactorSchedule, "factor")):
        with pytest.raises(NotImplementedError, match=f"{kind.__name__} has no {missing}"):
            kind(driven())


def test_in_a_chain_one_that_knows_only_its_own_rate_has_the_last_word():
    optimizer = driven()
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.1), Halving(optimizer), Shrinking(optimizer)])
    assert run(chain, 3)[3][:2] == pytest.approx([0.125 * 3 / 4, 0.3 * 0.125 * 3 / 4])


def test_a_schedule_made_later_starts_from_the_same_rate():
    optimizer = driven([0.5])
    run(Halving(optimizer), 2)
    assert Halving(optimizer).base_lrs == [0.5]
    assert row(optimizer)[0] == 0.5


def test_a_group_added_later_is_named():
    optimizer = driven()
    schedule = Halving(optimizer)
    optimizer.add_param_group({"params": torch.zeros(1, requires_grad=True)})
    with pytest.raises(ValueError, match="Halving: made for 2 parameter groups, the optimizer has 3 now; make the"):
        schedule.step()
    assert schedule.last_epoch == 0
    assert row(optimizer)[:2] == [1.0, 0.3]


def test_a_state_of_other_groups_changes_nothing():
    schedule = Halving(driven())
    run(schedule, 2)
    with pytest.raises(ValueError, match="Halving: given a state of 1 parameter groups, the optimizer has 2"):
        schedule.load_state_dict(Halving(driven([1.0])).state_dict())
    with pytest.raises(KeyError):
        schedule.load_state_dict({"base_lrs": [7.0, 8.0]})
    assert schedule.state_dict() == {"last_epoch": 2, "base_lrs": [1.0, 0.3]}


def test_states_do_not_share_their_lists():
    schedule = Halving(driven())
    state = schedule.state_dict()
    state["base_lrs"][0] = 99.0
    assert schedule.base_lrs == [1.0, 0.3]


@pytest.mark.parametrize("kind", [SGD, torch.optim.SGD])
def test_composites_go_through_a_checkpoint(kind, tmp_path):
    def make(rate):
        parameter = torch.zeros(2, requires_grad=True)
        optimizer = kind([parameter], lr=rate, momentum=0.5)
        chain = ChainedScheduler([ExponentialLR(optimizer, 0.9), StepLR(optimizer, 3)])
        return SequentialLR(optimizer, [chain, OneCycleLR(optimizer, 0.8, 20)], [5])

    model = torch.nn.Linear(1, 1)
    first, second = make(0.5), make(0.25)
    run(first, 8)
    save_checkpoint(tmp_path / "x", model=model, optimizer=first.optimizer, schedule=first, step=8)
    load_checkpoint(tmp_path / "x", model=model, optimizer=second.optimizer, schedule=second)
    assert json.dumps(second.state_dict()) == json.dumps(first.state_dict())
    assert run(second, 10) == run(first, 10)


def pixels(path):
    image = pytest.importorskip("matplotlib.image").imread(path)
    return image[..., :3].reshape(-1, 3).round(2)


def colours(path):
    """How many of matplotlib's first three line colours are in the picture."""
    found = pixels(path)
    lines = [(0.12, 0.47, 0.71), (1.0, 0.5, 0.05), (0.17, 0.63, 0.17)]
    return sum(bool((abs(found - line).max(1) < 0.011).any()) for line in lines)


def test_plots(tmp_path):
    optimizer = driven([0.1, 0.4, 0.4])
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.9), StepLR(optimizer, 3)])
    run(chain, 4)
    before = [chain.state_dict(), row(optimizer)]
    plot_schedule(chain, 30, tmp_path / "chain.png")
    assert [chain.state_dict(), row(optimizer)] == before
    assert run(chain, 1)[1] == pytest.approx(run(_chain_at(5), 0)[0])
    assert (tmp_path / "chain.png").read_bytes().startswith(b"\x89PNG")
    assert colours(tmp_path / "chain.png") == 2

    noam = NoamLR(optimizer, 64, 10)
    plot_schedule(noam, 30, tmp_path / "noam.png")
    assert colours(tmp_path / "noam.png") == 1

    plateau = ReduceLROnPlateau(driven([1.0, 0.5, 0.25]), patience=1)
    state = plateau.state_dict()
    plot_schedule(plateau, [1.0, 0.5, 0.5, 0.5, 0.5], tmp_path / "plateau.png")
    assert plateau.state_dict() == state
    assert colours(tmp_path / "plateau.png") == 3
    with pytest.raises(WriteError, match="No such file or directory"):
        plot_schedule(noam, 3, tmp_path / "no" / "noam.png")


def _chain_at(step):
    optimizer = driven([0.1, 0.4, 0.4])
    chain = ChainedScheduler([ExponentialLR(optimizer, 0.9), StepLR(optimizer, 3)])
    chain.go_to(step)
    return chain


def test_what_is_drawn(monkeypatch, tmp_path):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path, **options: drawn.append(self))
    plot_schedule(Halving(driven([0.4, 0.1, 0.4])), 3, tmp_path / "x.png")
    plot_schedule(ReduceLROnPlateau(driven([0.4]), patience=0), [1.0, 2.0], tmp_path / "x.png")
    (first,), (second,) = (figure.axes for figure in drawn)
    assert [line.get_label() for line in first.lines] == ["group 0, 2", "group 1"]
    assert [list(line.get_ydata()) for line in first.lines] == [[0.4, 0.2, 0.1], [0.1, 0.05, 0.025]]
    assert list(first.lines[0].get_xdata()) == [0, 1, 2]
    assert (first.get_xlabel(), first.get_ylabel(), first.get_title()) == ("step", "learning rate", "Halving")
    assert first.get_legend() is not None
    assert list(second.lines[0].get_ydata()) == [0.4, 0.4, pytest.approx(0.04)]
    assert (second.get_xlabel(), second.get_legend(), second.get_ylim()[0]) == ("evaluation", None, 0)


def test_plot_without_matplotlib_names_the_extra(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match=r"needs matplotlib.*ds-core\[plot\]"):
        plot_schedule(Halving(driven()), 3, tmp_path / "x.png")


def test_the_example_of_the_page():
    page = (Path(__file__).parents[1] / "docs" / "schedule.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(from .*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {}
    exec(code, names)
    (parameter,) = Linear(1, 1, bias=False).parameters()
    optimizer = SGD([parameter], lr=0.9)
    schedule = names["InverseTimeLR"](optimizer, 0.5)
    assert schedule.values(3) == pytest.approx([0.9, 0.6, 0.45])
    schedule.step()
    again = names["InverseTimeLR"](optimizer, 0.5)
    again.load_state_dict(schedule.state_dict())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.6)
