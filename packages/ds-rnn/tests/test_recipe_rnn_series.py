"""The recipe `rnn-series` through everything that a recipe must survive, and what of it is its own."""

import json

import pytest
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe
from tiny_recipes import words

TINY = {"hidden_size": 4, "window": 6, "horizon": 3, "epochs": 2, "batch_size": 100}


def write_series(path, start=0):
    """160 rows of a time and two numbers."""
    rows = [f"{t},{(start + t) % 7},{((start + t) % 5) * 1.5}" for t in range(160)]
    path.write_text("\n".join(["time,load,price", *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_series(folder / "series.csv")
    write_series(folder / "other.csv", 3)
    return folder


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, files):
    check_recipe(
        "rnn-series",
        ["--csv", f"{files}/series.csv", "--target", "load", *words(TINY, epochs=3, batch_size=40)],
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={
            "--hidden-size 5": "--hidden-size: given 5, the run began with 4",
            "--window 7": "--window: given 7, the run began with 6",
        },
        mistakes={
            "--window 40": "expected at least 43 in each, a --window of 40 and a --horizon of 3",
            "--target weight": "weight",
            "--folder somewhere": "--folder",
            "--drop-faulty": "--drop-faulty: without a row",
            "--cell lstmm": "did you mean lstm?",
            "--horizon 0": "--horizon: given 0, expected at least 1",
        },
        together="--dropout 0",
        parts=[part],
    )


def test_the_column_and_the_guesses_beside_it(files, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["--csv", f"{files}/series.csv", "--out", str(out), *words(TINY)]
    assert main(["train", "rnn-series", *given]) == 0
    printed = capsys.readouterr().out
    assert "learn price of" in printed  # the last column
    errors = json.loads((out / "results.json").read_text())["test in its own unit"]
    assert list(errors) == ["network", "the last number", "the last 3 again"]
    # worked by hand: 1.5 (t mod 5) in the last 24 numbers, 16 windows of 6 with 3 to follow
    numbers = [((136 + t) % 5) * 1.5 for t in range(24)]
    gaps = [abs(numbers[n + 6 + k] - numbers[n + 5]) for n in range(16) for k in range(3)]
    assert errors["the last number"]["mean absolute error"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-5)
    assert (out / "forecast.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("line", "message"), [("7,x,1", "line 4"), ("7,,1", "line 4"), ("7,nan,1", "line 4")])
def test_a_line_that_is_no_number_is_named(tmp_path, capsys, line, message):
    path = write_series(tmp_path / "series.csv")
    lines = path.read_text().splitlines()
    lines[3] = line
    path.write_text("\n".join(lines))
    given = ["--csv", str(path), "--target", "load", "--out", str(tmp_path / "out"), *words(TINY)]
    assert main(["train", "rnn-series", *given]) == 2
    complaints = capsys.readouterr().err
    assert message in complaints
    assert "expected a finite number" in complaints
    assert "Traceback" not in complaints


def test_the_generated_series(tmp_path, capsys):
    given = words(TINY, epochs=1, batch_size=500)
    assert main(["train", "rnn-series", "--out", str(tmp_path / "out"), "--no-plots", *given]) == 0
    assert "learn 4,000 generated numbers" in capsys.readouterr().out
