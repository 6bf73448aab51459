"""The evaluation at the end of a run is no part of it if none was due: cut anywhere, the run ends where it would have.

Everything a run leaves is compared: log, checkpoints, the best and what is written with it, what callbacks remember.
"""

import json
import math
import os
import signal

import pytest
import torch
from ds_core import AdamW, Callback, EarlyStopping, KeepBest, ReduceLROnPlateau, Trainer
from ds_core.errors import Interrupted
from ds_core.testing.recipe.outcome import first_difference, outcome
from ds_core.training.averaging import AverageLast
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.history import read_log

STEPS = 11


class Halves(Callback):
    """Steers by evaluations without any state: each one takes the second group's learning rate down."""

    def on_evaluate(self, trainer, metrics):
        trainer.optimizer.param_groups[1]["lr"] *= 0.5


class Press(Callback):
    """Presses Ctrl-C in a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, trainer, metrics):
        if trainer.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


class Run:
    """A Trainer that everything steers which may be steered by evaluations."""

    def __init__(self, small, folder, every=3, losses=None, more=(), tensor_rates=False, **options):
        model = small.make().model
        groups = [{"params": [*layer.parameters()]} for layer in (model[0], model[3])]
        rate = torch.tensor(0.05, dtype=torch.float64) if tensor_rates else 0.05
        optimizer = AdamW(groups, lr=rate)
        self.average = AverageLast(2)
        self.plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.3)
        self.stopping = EarlyStopping(patience=2, minimum_change=10.0, restore_best=True)

        def evaluate(model):
            measured = small.validation(model)["loss"]
            return {"loss": measured if losses is None else losses[self.trainer.step]}

        def write(trainer):
            weights = torch.cat([tensor.reshape(-1) for tensor in trainer.model.state_dict().values()])
            (trainer.folder / "best.txt").write_text(f"{weights.tolist()}")

        best = [KeepBest(write=write)] if folder is not None else []
        stopping = [self.stopping] if options.pop("stops", False) else []
        # whose state has the learning rates in it, and would hide what becomes of those that Halves sets
        plateau = [self.plateau] if options.pop("plateau", True) else []
        callbacks = [self.average, *plateau, *best, Halves(), *stopping, *more]
        self.trainer = Trainer(
            model,
            small.Squares(),
            optimizer,
            folder=folder,
            evaluate=evaluate,
            evaluate_every=every,
            callbacks=callbacks,
            progress=False,
            **options,
        )

    def left(self):
        """What there is when a run has ended, apart from files."""
        trainer = self.trainer
        return {
            "step": trainer.step,
            "best": trainer.best,
            "evaluated": trainer.evaluated,
            "stopped": trainer.stopped,
            # the log has null for NaN
            "records": [
                {**record, "seconds": 0, "loss": None if record["loss"] != record["loss"] else record["loss"]}
                for record in trainer.history.records
            ],
            "average": {**self.average.mean(), "steps": torch.tensor(self.average.steps)},
            "plateau": self.plateau.state_dict(),
            "rates": [float(group["lr"]) for group in trainer.optimizer.param_groups],
            "weights": dict(trainer.model.state_dict()),
        }


def same(given, expected, where=""):
    difference = first_difference(given, expected)
    assert difference is None, f"{where}: {difference}"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What the run of `STEPS` steps leaves, by its options."""
    known = {}

    def find(small, name, **options):
        if name not in known:
            folder = tmp_path_factory.mktemp("unbroken")
            run = Run(small, folder, **options)
            run.trainer.fit(small.Points(), STEPS)
            known[name] = run.left(), outcome(folder)
        return known[name]

    return find


# "falling": every evaluation is the best so far. "one good end": the evaluation at the end of the first part is the
# best of all, and without it that of step 3.
LOSSES = {
    "measured": None,
    "falling": {step: 10.0 - step for step in range(1, STEPS + 1)},
    "rising": {step: 1.0 + step for step in range(1, STEPS + 1)},
    "one good end": {step: 0.1 if step in (4, 5, 7, 8) else 4 + step / 10 for step in range(1, STEPS + 1)},
    "nan": dict.fromkeys(range(1, STEPS + 1), math.nan),
}


@pytest.mark.parametrize(
    ("losses", "every", "plateau", "cuts"),
    [
        ("measured", 3, True, range(1, STEPS)),
        ("falling", 3, True, range(2, STEPS)),
        ("one good end", 3, True, (4, 5, 7, 8)),
        ("rising", 3, True, (2, 3, 4)),
        ("nan", 3, True, (2, 4)),
        ("falling", None, True, (1, 4)),
        ("rising", 20, True, (3, 10)),
        ("measured", 3, False, (2, 3, 4)),
    ],
)
def test_cut_at_any_step_and_resumed(small, tmp_path, unbroken, losses, every, plateau, cuts):
    options = {"losses": LOSSES[losses], "every": every, "plateau": plateau}
    left, files = unbroken(small, (losses, every, plateau), **options)
    for cut in cuts:
        folder = tmp_path / str(cut)
        Run(small, folder, **options).trainer.fit(small.Points(), cut)
        second = Run(small, folder, **options)
        assert second.trainer.resume()
        second.trainer.fit(small.Points(), STEPS)
        same(second.left(), left, f"cut at {cut}")
        found = outcome(folder)
        if losses == "nan":  # its best files are of the cut, because there has been no better one since
            found = {name: content for name, content in found.items() if "best" not in name}
        same(found, files, f"cut at {cut}")


@pytest.mark.parametrize(
    ("losses", "cuts"), [("measured", range(1, STEPS)), ("falling", (2, 7, 8)), ("one good end", (4, 5, 8))]
)
def test_cut_at_many_steps(small, tmp_path, unbroken, losses, cuts):
    options = {"losses": LOSSES[losses]}
    left, files = unbroken(small, (losses, 3, True), **options)
    for cut in (*cuts, STEPS, STEPS):  # a run that has ended and is resumed stays as it is
        run = Run(small, tmp_path, **options)
        assert run.trainer.resume() == (cut != cuts[0])
        run.trainer.fit(small.Points(), cut)
    same(run.left(), left)
    same(outcome(tmp_path), files)


@pytest.mark.parametrize(("tensor_rates", "plateau"), [(False, True), (True, True), (False, False), (True, False)])
def test_trained_further_in_the_same_process(small, tmp_path, tensor_rates, plateau):
    options = {"tensor_rates": tensor_rates, "plateau": plateau}
    for folder in (tmp_path, None):
        whole = Run(small, folder and folder / "whole", **options)
        whole.trainer.fit(small.Points(), STEPS)
        for cut in (2, 3, 4):
            run = Run(small, folder and folder / str(cut), **options)
            run.trainer.fit(small.Points(), cut)
            run.trainer.fit(small.Points(), cut)
            run.trainer.fit(small.Points(), STEPS)
            same(run.left(), whole.left(), f"cut at {cut}")
            if folder is not None:
                same(outcome(folder / str(cut)), outcome(folder / "whole"), f"cut at {cut}")


@pytest.mark.parametrize("step", [1, 3, 5, 6, 10, STEPS])
def test_interrupted_at_any_step(small, tmp_path, unbroken, step):
    left, files = unbroken(small, ("measured", 3, True))
    with pytest.raises(Interrupted):
        Run(small, tmp_path, more=[Press(step)]).trainer.fit(small.Points(), STEPS)
    run = Run(small, tmp_path)
    assert run.trainer.resume()
    assert run.trainer.step == step
    run.trainer.fit(small.Points(), STEPS)
    same(run.left(), left)
    same(outcome(tmp_path), files)


def test_stopped_by_the_evaluation_at_the_end_it_may_still_be_trained_further(small, tmp_path):
    """Its weights are back in the model, and the checkpoint has those of the last step."""
    whole = Run(small, tmp_path / "whole", stops=True)
    whole.trainer.fit(small.Points(), 30)
    assert whole.trainer.step == 9
    assert whole.trainer.stopped.endswith("the weights of step 3 are back")
    for resumed in (True, False):
        folder = tmp_path / f"{resumed}"
        run = Run(small, folder, stops=True)
        run.trainer.fit(small.Points(), 8)
        assert run.trainer.stopped.endswith("the weights of step 3 are back")
        if resumed:
            run = Run(small, folder, stops=True)
            run.trainer.resume()
            assert run.trainer.stopped is None
        run.trainer.fit(small.Points(), 30)
        same(run.left(), whole.left())
        same(outcome(folder), outcome(tmp_path / "whole"))


def test_the_end_counts_for_the_run_that_ends_there(small, tmp_path):
    run = Run(small, tmp_path, losses=LOSSES["falling"])
    run.trainer.fit(small.Points(), 8)
    assert run.trainer.best == {"step": 8, "loss": 2.0}
    assert run.average.steps == [6, 8]
    assert describe_checkpoint(tmp_path / "best.safetensors").step == 8
    assert describe_checkpoint(tmp_path / "earlier-best.safetensors").step == 6
    assert [(r["step"], r.get("final")) for r in run.trainer.history.evaluations] == [(3, None), (6, None), (8, True)]
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1]) == {
        **{"kind": "evaluation", "step": 8, "loss": 2.0, "final": True}
    }
    extra = describe_checkpoint(tmp_path / "checkpoint.safetensors").extra["trainer"]
    assert (extra["evaluated"], extra["best"]["step"]) == (6, 6)
    # the checkpoint of the best is one of the run that goes on, too
    other = Run(small, tmp_path / "other", losses=LOSSES["falling"])
    other.trainer.resume(tmp_path / "best.safetensors")
    other.trainer.fit(small.Points(), 9)
    assert other.average.steps == [6, 9]


def test_what_the_user_changes_after_the_end_stays(small):
    run = Run(small, None)
    run.trainer.fit(small.Points(), 4)
    run.trainer.optimizer.param_groups[0]["lr"] = 0.123
    with torch.no_grad():
        run.trainer.model[0].bias.fill_(7.0)
    run.trainer.fit(small.Points(), 5)
    assert run.trainer.history.training[-1]["learning_rate"] == 0.123
    assert float(run.trainer.model[0].bias.detach().min()) > 6.5


def test_a_value_called_final_is_no_mark(small, tmp_path):
    trainer = small.make(tmp_path, evaluate=lambda model: {"loss": 1.0, "final": 1.0}, evaluate_every=2)
    trainer.fit(small.Points(), 4)
    again = small.make(tmp_path)
    again.resume()
    assert [record["step"] for record in again.history.evaluations] == [2, 4]


def test_killed_while_the_best_is_set_aside(small, tmp_path, monkeypatch):
    """Between the files of the end, whichever are there already, the run goes on as if it had not been cut."""
    options = {"losses": LOSSES["one good end"]}
    whole = Run(small, tmp_path / "whole", **options)
    whole.trainer.fit(small.Points(), STEPS)
    replace = os.replace

    class KilledError(Exception):
        pass

    for name in ("earlier-best.safetensors", "best.safetensors"):
        for when in ("before", "after"):
            folder = tmp_path / f"{name} {when}"
            left = [2 if name == "best.safetensors" else 1]  # the best of step 3 is not the end's

            def dies(source, target, *, name=name, when=when, left=left):
                left[0] -= os.path.basename(target) == name
                if left[0] == 0 and when == "before" and os.path.basename(target) == name:
                    raise KilledError
                replace(source, target)
                if left[0] == 0 and os.path.basename(target) == name:
                    raise KilledError

            monkeypatch.setattr(os, "replace", dies)
            with pytest.raises(KilledError):
                Run(small, folder, **options).trainer.fit(small.Points(), 8)
            monkeypatch.setattr(os, "replace", replace)
            for steps in (8, STEPS):
                run = Run(small, folder, **options)
                run.trainer.resume()
                run.trainer.fit(small.Points(), steps)
            same(outcome(folder), outcome(tmp_path / "whole"), f"{when} {name}")
            assert [record["step"] for record in read_log(folder / "log.jsonl")].count(8) == 1
