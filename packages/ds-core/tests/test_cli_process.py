"""What the `ds` command does with the process it runs in: whose it is, how it is stopped, where it prints."""

import os
import runpy
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints

import ds_core.cli.main
import ds_core.recipes.recipe
import pytest
from ds_core import __version__
from ds_core.cli.main import main
from ds_core.options import option
from ds_core.recipes import Recipe


@dataclass
class Options:
    steps: int = option(1, "optimizer steps")


@pytest.fixture(autouse=True)
def events(monkeypatch):
    """What happens, in order, where one recipe is installed."""
    happened = []
    stub = Recipe("stub", "does nothing", Options, lambda options: happened.append("trained"))

    class Here(EntryPoint):
        dist = None

        def load(self):
            happened.append("imported")
            return stub

    points = EntryPoints([Here("stub", "here:recipe", "ds.recipes")])
    monkeypatch.setattr(ds_core.recipes.recipe, "entry_points", lambda group: points)
    monkeypatch.setattr(ds_core.cli.main, "dedicate_process", lambda: happened.append("dedicated"))
    monkeypatch.delenv("DS_DEBUG", raising=False)
    return happened


@pytest.mark.parametrize("words", [["train", "stub"], ["--debug", "train", "stub", "--steps", "2"]])
def test_a_process_of_its_own_is_dedicated_between_imports_and_training(events, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["ds", *words])
    assert main() == 0
    assert events == ["imported", "dedicated", "trained"]


def test_the_process_of_another_program_is_left_as_it_is(events):
    assert main(["train", "stub"]) == 0
    assert events == ["imported", "trained"]


@pytest.mark.parametrize("words", ["train --help", "train stub --help", "train stbu", "train stub --stpes 2", "list"])
def test_a_process_that_does_not_train_is_not_dedicated(events, monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["ds", *words.split()])
    main()
    assert "dedicated" not in events


def test_ctrl_c_anywhere_else(capsys, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("ds_core.cli.main.installed_recipes", stopped)
    assert main(["list"]) == 130
    assert capsys.readouterr() == ("", "ds: stopped\n")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ds", "--version"])
    with pytest.raises(SystemExit) as finished:
        runpy.run_module("ds_core.cli", run_name="__main__")
    assert finished.value.code == 0
    assert capsys.readouterr().out == f"ds {__version__}\n"


def test_into_a_closed_pipe(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["list"]) == 1
