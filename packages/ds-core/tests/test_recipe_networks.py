"""The recipes `mlp` and `regression`, from the command line to the results."""

import json

import numpy as np
import pytest
import torch
from ds_core import evaluate, load_weights
from ds_core.cli.main import main
from ds_core.testing import RECIPE_PARTS, check_recipe

FAST = ["--threads", "1", "--hidden", "16", "--epochs", "3", "--no-plots"]


def run(name, folder, *options):
    assert main(["train", name, "--out", str(folder), *options]) == 0
    return json.loads((folder / "results.json").read_text())


def failed(capsys, *words):
    status = main(list(words))
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return status, error


def test_mlp_learns_wine(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--dataset", "wine", "--threads", "1", "--hidden", "16", "--epochs", "40", "--lr", "0.01"]
    results = run("mlp", folder, *options)
    assert results["test"]["accuracy"] > 0.85
    printed = capsys.readouterr().out
    assert "class_0" in printed
    assert "13 -> 16 -> 3" in printed
    by_class = results["test by class"]
    assert sum(found["rows"] for found in by_class.values()) == 18
    assert sum(found["recall"] * found["rows"] for found in by_class.values()) / 18 == pytest.approx(
        results["test"]["accuracy"]
    )
    for plot in ("loss.png", "confusion.png", "boundary.png"):
        assert (folder / plot).read_bytes().startswith(b"\x89PNG")


def test_regression_is_better_than_the_mean(tmp_path, capsys):
    folder = tmp_path / "run"
    results = run("regression", folder, "--threads", "1", "--hidden", "16", "--lr", "0.01")
    assert results["test"]["R2"] > 0.3
    lines = capsys.readouterr().out.splitlines()
    network, mean = (next(line for line in lines if line.startswith(name)).split() for name in ("network", "mean of"))
    assert float(network[-1]) == pytest.approx(results["test"]["R2"], rel=1e-3)
    assert float(network[1]) < float(mean[5])  # mean absolute errors, in the target's unit
    assert 30 < float(network[1]) < 70
    own = results["test in the target's unit"]
    assert own["network"]["mean absolute error"] == pytest.approx(float(network[1]), rel=1e-3)
    assert own["mean of the training rows"]["root mean squared error"] == pytest.approx(float(mean[6]), rel=1e-3)
    for plot in ("loss.png", "predicted.png"):
        assert (folder / plot).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("size", "steps"), [("0", 3), ("1", 3 * 120), ("50", 9)])
def test_full_batch_mini_batch_and_single_sample_descent(size, steps, tmp_path):
    assert run("mlp", tmp_path / "run", "--dataset", "iris", *FAST, "--batch-size", size)["steps"] == steps


def test_early_stopping(tmp_path):
    options = ["--dataset", "iris", *FAST, "--epochs", "50", "--lr", "0", "--patience", "2", "--evaluate-every", "1"]
    assert run("mlp", tmp_path / "run", *options)["steps"] == 3 * 4


def test_the_best_weights_are_those_of_the_results(tmp_path):
    from ds_core.recipes.mlp import MLPOptions
    from ds_core.recipes.mlp_model import mlp
    from ds_core.recipes.prepare import prepare, rows_of

    results = run("mlp", tmp_path / "run", "--dataset", "iris", *FAST)
    data = prepare(MLPOptions(dataset="iris"), "classification", torch.device("cpu"))
    model = mlp(4, [16], 3, dropout=0.3)
    step = load_weights(tmp_path / "run" / "best.safetensors", model)
    assert results["weights"] == f"step {step}"
    from ds_core.metrics import Accuracy

    found = evaluate(model, rows_of(data.test), metrics={"accuracy": Accuracy()})
    assert found["accuracy"] == results["test"]["accuracy"]


def write_csv(path):
    generator = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in generator.normal(size=(80, 2))]
    path.write_text("\n".join(["a,b,larger", *rows]) + "\n")
    return path


@pytest.fixture
def csv(tmp_path):
    return write_csv(tmp_path / "mine.csv")


def test_a_csv_file(csv, tmp_path, capsys):
    results = run("mlp", tmp_path / "run", "--csv", str(csv), *FAST, "--epochs", "100", "--lr", "0.02", "--balance")
    assert results["test"]["accuracy"] > 0.8
    assert "yes" in capsys.readouterr().out
    results = run("regression", tmp_path / "b", "--csv", str(csv), "--target", "a", *FAST)
    assert "R2" in results["test"]


def test_what_to_type_next_and_a_linear_model(csv, tmp_path, capsys):
    words = ["--csv", str(csv), "--target", "a", "--threads", "1", "--hidden", "--evaluate-every", "1", "--no-plots"]
    run("regression", tmp_path / "whole", *words, "--epochs", "1")
    out = capsys.readouterr().out
    assert "3 -> 1, learn" in out  # b, larger=no, larger=yes
    assert "--resume --epochs 2" in out
    run("regression", tmp_path / "stopped", *words, "--lr", "0", "--patience", "1")
    assert "--resume" not in capsys.readouterr().out


def test_results_are_json(csv, tmp_path):
    # one test row, so that its R2 is NaN
    run("regression", tmp_path / "run", "--csv", str(csv), "--target", "a", *FAST, "--test", "0.01")
    text = (tmp_path / "run" / "results.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["test"]["R2"] is None


def test_a_class_that_is_alone(csv, tmp_path, capsys):
    csv.write_text(csv.read_text().replace(",no", ",yes"))
    status, error = failed(capsys, "train", "mlp", "--out", str(tmp_path / "run"), "--csv", str(csv), *FAST)
    assert (status, "'larger' is 'yes' in every row, expected two classes at least" in error) == (2, True)


def test_faulty_rows_and_another_encoding(csv, tmp_path, capsys):
    csv.write_bytes((csv.read_text().replace("yes", "n\u00e3o") + "1,,no\n1,no\n").encode("latin-1"))
    run("mlp", tmp_path / "run", "--csv", str(csv), *FAST, "--encoding", "latin-1", "--drop-faulty")
    out = capsys.readouterr().out
    assert "mine.csv without 2 faulty row(s): 64 rows" in out
    assert "n\u00e3o" in out


@pytest.mark.parametrize("kind", ["one feature", "one row", "dollars"])
def test_plots_of_little_data(kind, csv, tmp_path):
    if kind == "one feature":
        csv.write_text("\n".join(line.split(",", 1)[1] for line in csv.read_text().splitlines()) + "\n")
    names = csv.read_text().replace("yes", "$x_$").replace("a,b,", "a,$b^$,")  # no formula that TeX could read
    csv.write_text(names if kind == "dollars" else csv.read_text())
    data = ["--dataset", "iris", "--test", "0.01"] if kind == "one row" else ["--csv", str(csv)]
    folder = tmp_path / "run"
    run("mlp", folder, *data, *FAST, "--plots")
    assert (folder / "boundary.png").read_bytes().startswith(b"\x89PNG")
    if kind == "dollars":
        run("regression", tmp_path / "b", "--csv", str(csv), "--target", "$b^$", *FAST, "--plots")


@pytest.fixture(scope="module")
def other_csv(tmp_path_factory):
    """A file that lies where it is for all parts of the check."""
    return write_csv(tmp_path_factory.mktemp("data") / "other.csv")


MISTAKES = {
    "--dataset digit": "given 'digit', expected one of digits, iris",
    "--csv none.csv": "none.csv",
    "--csv CSV --target largr": "larger",
    "--target a": "--target names a column of --csv",
    "--csv CSV --folder data": "--csv and --folder contradict",
    "--validation 0.5 --test 0.5": "leave less than a tenth",
    "--hidden 0": "hidden",
    f"--hidden 1{30 * '0'}": "at most 1000000",
    "--hidden 1000000 1000000": "--hidden 1000000 1000000: there is no memory",
    "--csv CSV --norm batch --batch-size 1": "--norm batch needs 2 rows",
    "--csv CSV --norm batch --batch-size 21": "64 training rows --batch-size 21 leaves 1",
    "--csv CSV --target a": "has 1 row(s), expected 3 at least",
    "--csv CSV --encoding klingon": "given encoding 'klingon'",
    "--activation relo": "relu",
    "--optimiser sgd": "--optimizer",
    "--device warp": "--device warp cannot be used here",
    "--dataset mnist --folder nowhere": "nowhere",
}


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive_mlp(part, other_csv):
    check_recipe(
        "mlp",
        "--dataset iris --hidden 8 --epochs 3 --evaluate-every 1 --dropout 0.2 --norm batch --schedule constant",
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={"--hidden 4": "--hidden: given [4], the run began with [8]"},
        mistakes={words.replace("CSV", str(other_csv)): message for words, message in MISTAKES.items()},
        together="--dropout 0 --norm layer --optimizer sgd",
        parts=[part],
    )


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive_regression(part):
    check_recipe(
        "regression",
        "--hidden 8 --epochs 3 --evaluate-every 1 --dropout 0.2 --norm batch --batch-size 64 --lr 0.01",
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={"--loss smooth-l1": "--loss: given smooth-l1, the run began with mse"},
        together="--dropout 0 --norm layer --optimizer sgd",
        parts=[part],
    )


def test_a_changed_csv_file_is_no_resumed_run(csv, tmp_path, capsys):
    run("mlp", tmp_path / "run", "--csv", str(csv), *FAST)
    csv.write_text(csv.read_text().replace("0.", "1."))
    status, error = failed(capsys, "train", "mlp", "--out", str(tmp_path / "run"), "--resume", "--epochs", "4")
    assert status == 1
    assert f"cannot resume with {csv}: the run began with other data" in error
