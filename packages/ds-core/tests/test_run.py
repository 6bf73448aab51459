"""The order of a run: what happens before the folder is opened, what is deleted, what is written, and by whom."""

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from ds_core import SGD, KeepBest, Linear, Module, MSELoss, Trainer, UserError, evaluate
from ds_core.data import Loader, TensorDataset
from ds_core.options import option
from ds_core.recipes import PrecisionOptions, Run, RunOptions
from ds_core.training.same_data import SameData, digest_of


@dataclass
class Options(PrecisionOptions, RunOptions):
    out: Path = option(Path("runs/line"), "the run folder", may_change=True)
    slope: float = option(2.0, "slope of the line")
    epochs: int = option(3, "how often every point is seen", may_change=True)


class Line(Module):
    """A linear layer with dropout-like noise, so that the seed matters in training too."""

    def __init__(self):
        self.layer = Linear(1, 1)

    def forward(self, x):
        return self.layer(x)

    def backward(self, dy, *, input_gradient=True):
        return self.layer.backward(dy, input_gradient=input_gradient)


class LineRun(Run[Options, TensorDataset, Line]):
    name = "line"
    files = ("model.txt", "sketch.txt")

    def __init__(self, options):
        super().__init__(options)
        self.calls = []

    def read_data(self):
        self.calls.append("read_data")
        x = torch.linspace(-1, 1, 8, device=self.device, dtype=self.dtype).unsqueeze(1)
        return TensorDataset(x, self.options.slope * x + 1)

    def build_model(self):
        self.calls.append("build_model")
        return Line()

    def make_batches(self):
        self.calls.append("make_batches")
        return Loader(self.data, 4, seed=self.options.seed)

    def count_steps(self):
        self.calls.append("count_steps")
        return self.options.epochs * 2

    def make_trainer(self):
        self.calls.append("make_trainer")
        return Trainer(
            self.model,
            MSELoss(),
            SGD(self.model.parameters(), lr=0.1),
            folder=self.folder,
            evaluate=lambda model: evaluate(model, [self.data.tensors], MSELoss()),
            evaluate_every=2,
            callbacks=[SameData(digest_of(*self.data.tensors), "the points"), KeepBest()],
            progress=False,
        )

    def write_folder(self):
        self.calls.append("write_folder")
        (self.folder / "model.txt").write_text("a line")

    def describe(self):
        self.calls.append("describe")
        return "a line is learned"

    def before_training(self):
        self.calls.append("before_training")

    def report(self):
        self.calls.append("report")
        return {"slope": float(self.model.layer.weight.detach())}

    def plot(self):
        self.calls.append("plot")
        super().plot()

    def next_commands(self):
        return [*super().next_commands(), f"train line --out {self.typed_folder} --resume"]


ORDER = ["read_data", "build_model", "make_batches", "count_steps", "make_trainer"]


def train(folder, run=LineRun, **options):
    made = run(Options(out=folder, device="cpu", **options))
    made.run()
    return made


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_order_and_what_is_left(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HATCH_ENV_ACTIVE", raising=False)
    run = train(tmp_path / "a b")
    assert run.calls == [*ORDER, "write_folder", "describe", "before_training", "report", "plot"]
    assert set(content(run.folder)) == {
        *("checkpoint.safetensors", "best.safetensors", "log.jsonl", "loss.png", "model.txt"),
        *("recipe.json", "results.json"),
    }
    results = json.loads((run.folder / "results.json").read_text())
    assert results == {"steps": 6, "weights": "step 6", "seconds": results["seconds"], "slope": results["slope"]}
    out = capsys.readouterr().out
    threads = torch.get_num_threads()
    assert out.startswith(f"a line is learned; on cpu, float32, {threads} thread(s)\n")
    assert f"weights of step 6; {run.trainer.seconds:.1f} s of training\n  {run.folder}/best.safetensors\n" in out
    assert out.endswith(f"\ntry next:\n  ds info '{run.folder}'\n  ds train line --out '{run.folder}' --resume\n")
    assert run.parameter_count == 2
    assert run.parameters_in_words == "2 parameters"
    next(run.model.parameters()).requires_grad_(False)
    assert run.parameters_in_words == "2 parameters of which 1 are trained"


def test_what_a_resumed_run_leaves_out(tmp_path, capsys):
    train(tmp_path / "run")
    run = train(tmp_path / "run", resume=True, epochs=4, plots=False)
    assert run.resumed
    assert run.calls == [*ORDER, "write_folder", "describe", "report"]
    assert run.trainer.step == 8


def test_the_weights_of_the_results_are_the_best_evaluations(tmp_path):
    class Worse(LineRun):
        def make_trainer(self):
            trainer = super().make_trainer()
            losses = iter([3.0, 1.0, 2.0])
            trainer.evaluate = lambda model: {"loss": next(losses)}
            return trainer

    run = train(tmp_path / "best", Worse, plots=False)
    assert json.loads((run.folder / "results.json").read_text())["weights"] == "step 4"
    shorter = train(tmp_path / "shorter", epochs=2, plots=False)
    assert torch.equal(run.model.layer.weight, shorter.model.layer.weight)

    class Last(Worse):
        def make_trainer(self):
            trainer = super().make_trainer()
            trainer.callbacks.pop()  # KeepBest
            return trainer

    run = train(tmp_path / "last", Last, plots=False)
    assert json.loads((run.folder / "results.json").read_text())["weights"] == "step 6"


@pytest.mark.parametrize("method", ORDER)
def test_nothing_is_deleted_or_written_before_all_that_can_fail(method, tmp_path):
    def fail(self):
        raise UserError("no memory for it")

    run = type("Failing", (LineRun,), {method: fail})
    with pytest.raises(UserError, match="no memory for it"):
        train(tmp_path / "new", run)
    assert not (tmp_path / "new").exists()
    train(tmp_path / "run", plots=False)
    before = content(tmp_path / "run")
    for how in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(UserError, match="no memory for it"):
            train(tmp_path / "run", run, **how)
    assert content(tmp_path / "run") == before


class Killed(BaseException):
    """In place of kill -9: nothing catches it."""


def kill(*arguments):
    raise Killed


def test_killed_while_overwriting_leaves_nothing_of_the_run_before(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(folder)
    for name in ("sketch.txt", "notes.txt"):
        (folder / name).write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(LineRun, "write_folder", kill)
        with pytest.raises(Killed):
            train(folder, overwrite=True)
    assert set(content(folder)) == {"recipe.json", "notes.txt"}
    for name in ("sketch.txt", "loss.png", "best.safetensors"):  # as if killed while it deleted them
        (folder / name).write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", kill)
        with pytest.raises(Killed):
            train(folder, resume=True)
    assert set(content(folder)) - {"log.jsonl"} == {"recipe.json", "notes.txt", "model.txt"}
    assert train(folder, resume=True).trainer.step == 6


def test_another_recipes_files_are_deleted_with_its_run(tmp_path):
    class OtherRun(LineRun):
        name = "other"
        files = ()

        def write_folder(self):
            pass

    train(tmp_path / "run")
    train(tmp_path / "run", OtherRun, overwrite=True, plots=False)
    assert {"model.txt", "loss.png"}.isdisjoint(content(tmp_path / "run"))


def test_a_shorter_run_is_refused_before_anything_is_touched(tmp_path):
    folder = tmp_path / "run"
    train(folder, plots=False)
    with open(folder / "log.jsonl", "a") as log:
        log.write('{"kind": "train", "step": 7}\n')  # killed after it: to resume would cut it off
    before = content(folder)
    with pytest.raises(UserError, match=r"^the run is at step 6 already, beyond the 4 steps asked for$"):
        train(folder, resume=True, epochs=2)
    assert content(folder) == before


def test_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train(tmp_path / "run")
    out = capsys.readouterr().out
    assert "no plots: plotting needs matplotlib" in out
    assert "try next" in out
    assert not (tmp_path / "run" / "loss.png").exists()


def test_inside_a_hatch_environment(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HATCH_ENV_ACTIVE", "default")
    train(tmp_path / "run", plots=False)
    assert "try next:\n  hatch run ds info " in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(tmp_path):
    weights = []
    for index, seed in enumerate((1, 1, 2**62)):
        torch.rand(index)
        weights.append(train(tmp_path / str(index), seed=seed, plots=False).model.layer.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_seed_is_that_of_all_three_generators_for_the_data_and_for_the_model(tmp_path):
    drawn = []

    def draw():
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    class Draws(LineRun):
        def read_data(self):
            self.numbers = draw()
            return super().read_data()

        def build_model(self):
            self.numbers += draw()
            return super().build_model()

        def before_training(self):
            drawn.append([*self.numbers, *draw()])

    for index, seed in enumerate((1, 1, 2, 2**62)):
        random.seed(index), np.random.seed(index), torch.manual_seed(index)
        Draws(Options(out=tmp_path / str(index), seed=seed, plots=False)).run()
    assert drawn[0] == drawn[1]
    for column in zip(*drawn[1:], strict=True):
        assert len(set(column)) == 3
    assert drawn[0][:3] == drawn[0][3:6]  # what was drawn for the data does not change the model


def test_precision(tmp_path, capsys, monkeypatch):
    compiled = []
    monkeypatch.setattr("ds_core.recipes.run.compile_pairs", compiled.append)
    run = train(tmp_path / "wide", dtype="float64", plots=False)
    assert run.model.layer.weight.dtype == torch.float64
    assert "on cpu, float64," in capsys.readouterr().out
    train(tmp_path / "pairs", compile="pairs", plots=False)
    assert compiled == [False, True]

    @dataclass
    class Simple(RunOptions):
        slope: float = option(2.0, "slope of the line")
        epochs: int = option(1, "how often every point is seen", may_change=True)

    run = LineRun(Simple(out=tmp_path / "simple", device="cpu", plots=False))
    run.run()
    assert (run.dtype, compiled) == (None, [False, True, False])
    assert "; on cpu, " in capsys.readouterr().out


def test_threads(tmp_path):
    before = torch.get_num_threads()
    try:
        train(tmp_path / "run", threads=before + 1, plots=False)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_a_run_lacks_a_method():
    class Half(Run):
        def describe(self):
            return "half"

    with pytest.raises(TypeError, match="abstract method"):
        Half(Options())
