"""The recipe `rnn-digits` through everything that a recipe must survive, and what of it is its own."""

import json

import pytest
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe
from tiny_recipes import words

TINY = {"hidden_size": 4, "epochs": 2, "batch_size": 500, "evaluate_every": 1}


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part):
    check_recipe(
        "rnn-digits",
        words(TINY, epochs=3),
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={
            "--hidden-size 5": "--hidden-size: given 5, the run began with 4",
            "--no-bidirectional": "--bidirectional",
        },
        mistakes={
            "--csv rows.csv": "a table has no rows of pixels",
            "--cell lstmm": "did you mean lstm?",
            "--dataset iris": "--dataset: given 'iris', expected one of digits, mnist, fashion_mnist",
            "--dropout 1": "--dropout: given 1.0, expected at most 0.99",
            "--validation 0.5 --test 0.5": "leave less than a tenth",
            "--hidden-size 0": "--hidden-size: given 0, expected at least 1",
        },
        together="--dropout 0",
        parts=[part],
    )


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_cell_and_layer_trains(tmp_path, capsys, cell):
    out = tmp_path / "out"
    given = words(TINY, cell=cell, num_layers=2)
    assert main(["train", "rnn-digits", "--out", str(out), "--no-plots", *given]) == 0
    assert "in 8 rows" in capsys.readouterr().out
    assert json.loads((out / "results.json").read_text())["test"]["accuracy"] > 0


def test_pixel_by_pixel(tmp_path, capsys):
    given = words(TINY, epochs=1, cell="rnn")
    assert main(["train", "rnn-digits", "--pixels", "--out", str(tmp_path / "out"), "--no-plots", *given]) == 0
    assert "in 64 pixels" in capsys.readouterr().out
