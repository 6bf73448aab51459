"""The recipe `perceptron`: what a single one learns, and what it cannot."""

import json

import pytest
import torch
from ds_core.cli.main import main
from ds_core.recipes.perceptron import mistakes, perceptron
from ds_core.recipes.two_classes import GATES, gate, iris
from ds_core.testing import RECIPE_PARTS, check_recipe


def run(folder, capsys, *options):
    status = main(["train", "perceptron", "--out", str(folder), *options])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out, json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name", ["and", "or"])
def test_a_gate_that_a_line_divides_is_learnt(name, tmp_path, capsys):
    printed, results = run(tmp_path / "run", capsys, "--dataset", name)
    assert results["mistakes"] == 0
    assert results["epochs"] < 30  # it stops when nothing is wrong any more
    weight, bias = torch.tensor(results["weight"]), results["bias"]
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert ((x @ weight + bias) > 0).tolist() == [bool(answer) for answer in GATES[name]]
    assert "mistakes are left" not in printed
    for plot in ("mistakes.png", "boundary.png"):
        assert (tmp_path / "run" / plot).read_bytes().startswith(b"\x89PNG")


def test_xor_is_not_and_the_reason_is_said(tmp_path, capsys):
    printed, results = run(tmp_path / "run", capsys, "--dataset", "xor", "--epochs", "40", "--no-plots")
    assert results["epochs"] == 40
    assert results["mistakes"] >= 1
    assert "no line has (0, 1) and (1, 0) on one side" in printed
    assert not (tmp_path / "run" / "boundary.png").exists()


def test_one_species_of_iris_is_told_from_the_others_and_another_is_not(tmp_path, capsys):
    printed, results = run(tmp_path / "a", capsys, "--no-plots")
    assert (results["mistakes"], results["test mistakes"], results["rows"]) == (0, 0, 120)
    assert "setosa where" in printed
    assert "petal length (cm)" in printed
    _, results = run(tmp_path / "b", capsys, "--species", "versicolor", "--epochs", "3", "--no-plots")
    assert results["mistakes"] > 0


def test_all_four_features_have_a_plot_too(tmp_path, capsys):
    run(tmp_path / "run", capsys, "--features", "all", "--epochs", "3")
    assert (tmp_path / "run" / "boundary.png").exists()


def test_targets_and_weights_to_begin_with():
    assert gate("xor").train.tensors[1].flatten().tolist() == [-1, 1, 1, -1]
    task = iris("virginica", "sepal", 0.2, 0)
    assert task.features == ("sepal length (cm)", "sepal width (cm)")
    assert sum(int((part.tensors[1] == 1).sum()) for part in (task.train, task.test)) == 50
    model = perceptron(2)
    assert all(not parameter.any() for parameter in model.parameters())
    assert mistakes(model, gate("and").train) == 4  # on the boundary is wrong


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part):
    check_recipe(
        "perceptron",
        "--dataset xor --epochs 4",
        longer="--epochs 6",
        shorter="--epochs 2",
        changed={"--lr 2": "--lr: given 2.0, the run began with 1.0"},
        mistakes={"--dataset nand": "--dataset: given 'nand', expected one of iris, and, or, xor"},
        tolerance=1e-9,
        parts=[part],
    )
