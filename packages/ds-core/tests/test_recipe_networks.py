"""The recipes `mlp` and `regression`, from the command line to the results."""

import json

import numpy as np
import pytest
import torch
from ds_core.cli.main import main
from ds_core.training.checkpoint import load_weights

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


@pytest.mark.parametrize("name", ["mlp", "regression"])
def test_a_resumed_run_ends_as_an_unbroken_one(name, tmp_path):
    options = [*FAST, "--dropout", "0.2", "--norm", "batch", "--evaluate-every", "1"]
    whole = run(name, tmp_path / "whole", *options, "--schedule", "constant")
    run(name, tmp_path / "parts", *options, "--schedule", "constant", "--epochs", "2")
    parts = run(name, tmp_path / "parts", "--resume", "--epochs", "3", "--threads", "1")
    assert {**parts, "seconds": 0} == {**whole, "seconds": 0}


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
    from ds_core.training.evaluation import evaluate

    results = run("mlp", tmp_path / "run", "--dataset", "iris", *FAST)
    data = prepare(MLPOptions(dataset="iris"), "iris", "classification", torch.device("cpu"))
    model = mlp(4, [16], 3, dropout=0.3)
    assert load_weights(tmp_path / "run" / "best.safetensors", model) == results["best step"]
    from ds_core.metrics import Accuracy

    found = evaluate(model, rows_of(data.test), metrics={"accuracy": Accuracy()})
    assert found["accuracy"] == results["test"]["accuracy"]


@pytest.fixture
def csv(tmp_path):
    generator = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in generator.normal(size=(80, 2))]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["a,b,larger", *rows]) + "\n")
    return path


def test_a_csv_file(csv, tmp_path, capsys):
    results = run("mlp", tmp_path / "run", "--csv", str(csv), *FAST, "--epochs", "100", "--lr", "0.02", "--balance")
    assert results["test"]["accuracy"] > 0.8
    assert "yes" in capsys.readouterr().out
    results = run("regression", tmp_path / "b", "--csv", str(csv), "--target", "a", *FAST)
    assert "R2" in results["test"]


def test_a_changed_csv_file_is_no_resumed_run(csv, tmp_path, capsys):
    run("mlp", tmp_path / "run", "--csv", str(csv), *FAST)
    csv.write_text(csv.read_text().replace("0.", "1."))
    status, error = failed(capsys, "train", "mlp", "--out", str(tmp_path / "run"), "--resume", "--epochs", "4")
    assert status == 1
    assert "is not as it was when the run began" in error


def test_a_resumed_run_of_another_recipe(csv, tmp_path, capsys):
    run("regression", tmp_path / "run", "--csv", str(csv), "--target", "a", *FAST)
    status, error = failed(capsys, "train", "mlp", "--out", str(tmp_path / "run"), "--resume")
    assert (status, "holds a run of regression, not of mlp" in error) == (2, True)


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


def test_mistakes(csv, tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    for words, status, message in [
        (["--dataset", "digit"], 2, "given 'digit', expected one of digits, iris"),
        (["--csv", str(tmp_path / "none.csv")], 2, "none.csv"),
        (["--csv", str(csv), "--target", "largr"], 2, "larger"),
        (["--target", "a"], 2, "--target names a column of --csv"),
        (["--csv", str(csv), "--folder", "data"], 2, "--csv and --folder contradict"),
        (["--validation", "0.5", "--test", "0.5"], 2, "leave less than a tenth"),
        (["--hidden", "0"], 2, "hidden"),
        (["--hidden", "1" + 30 * "0"], 2, "at most 1000000"),
        (["--hidden", "1000000", "1000000"], 2, "--hidden 1000000 1000000: there is no memory"),
        (["--csv", str(csv), "--norm", "batch", "--batch-size", "1"], 2, "--norm batch needs 2 rows"),
        (
            ["--csv", str(csv), "--norm", "batch", "--batch-size", "21"],
            2,
            "64 training rows --batch-size 21 leaves 1",
        ),
        (["--csv", str(csv), "--target", "a"], 2, "has 1 row(s), expected 3 at least"),
        (["--csv", str(csv), "--encoding", "klingon"], 2, "given encoding 'klingon'"),
        (["--activation", "relo"], 2, "relu"),
        (["--optimiser", "sgd"], 2, "--optimizer"),
        (["--device", "warp"], 2, "--device warp cannot be used here"),
        (["--dataset", "mnist", "--folder", str(tmp_path / "nowhere")], 2, "nowhere"),
    ]:
        found, error = failed(capsys, "train", "mlp", *out, *words)
        assert (found, message in error) == (status, True), (words, error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mlp", "regression"])
def test_check(name, capsys):
    assert main(["check", name]) == 0
    assert "weight" in capsys.readouterr().out
