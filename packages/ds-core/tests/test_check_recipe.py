"""`check_recipe`: the example of the page passes it, and each part finds the fault that is planted for it."""

import os
import random
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from ds_core import Linear, UserError
from ds_core.data import TensorDataset
from ds_core.options import option
from ds_core.recipes import Recipe
from ds_core.testing import RECIPE_PARTS, CheckFailed, check_recipe
from ds_core.training.run_folder import CHECKPOINT_FILE, RECIPE_FILE

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
example, call = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
page = {"__name__": __name__}
exec(compile(example, str(PAGE), "exec"), page)
LineRun, LineOptions, line = page["LineRun"], page["LineOptions"], page["recipe"]


def check(recipe, *parts, words="--epochs 3", **options):
    given = {
        "longer": "--epochs 4",
        "shorter": "--epochs 1",
        "changed": {"--slope 3": "--slope: given 3.0, the run began with 2.0"},
        **options,
    }
    check_recipe(recipe, words, parts=parts, **given)


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_the_example_of_the_page(part):
    check(line, part)


def test_the_call_of_the_page(monkeypatch):
    calls = []
    monkeypatch.setattr("ds_core.testing.recipe.check_recipe", lambda *given, **options: calls.append((given, options)))
    exec(call, {"recipe": line})
    assert calls == [
        (
            (line, "--epochs 3"),
            {
                "longer": "--epochs 4",
                "shorter": "--epochs 1",
                "changed": {"--slope 3": "--slope: given 3.0, the run began with 2.0"},
            },
        )
    ]


def test_a_recipe_by_its_name(monkeypatch):
    monkeypatch.setattr("ds_core.testing.recipe.check.find_recipe", {"line": line}.__getitem__)
    check("line", "gradients")


def test_a_part_that_is_none():
    with pytest.raises(ValueError, match="given the part 'kiled', expected one of gradients, mistakes"):
        check(line, "kiled")


def faulty(part, message, options=LineOptions, given=(), **methods):
    """The fault that a part must find: a recipe with these methods instead of the right ones."""
    run = type("Faulty", (LineRun,), methods)
    check_options = dict(given)
    return pytest.param(part, message, Recipe("line", "is faulty", options, run.train), check_options, id=message)


def writes_early(self):
    if self.options.slope == 0:
        self.folder.mkdir(parents=True, exist_ok=True)
        raise UserError("no line is that flat")
    return LineRun.read_data(self)


def fails_loudly(self):
    if self.options.lr > 1:
        raise RuntimeError("two\nlines")
    return LineRun.build_model(self)


def forgets_a_file(self):
    (self.folder / "notes.json").write_text("{}")


def draws_points(self):
    return TensorDataset(torch.rand(64, 1, generator=torch.Generator().manual_seed(os.getpid())), torch.zeros(64, 1))


def keeps_old_weights(self):
    best = self.folder / "best.safetensors"
    old = best.read_bytes() if best.exists() and self.options.overwrite else None
    LineRun._open_folder(self)
    if old is not None:
        best.write_bytes(old)
        os.utime(best, (0, 0))


class CountsEpochs:
    """A callback whose state is lost: it changes the weights by how many steps this session has taken."""

    def __init__(self):
        self.steps = 0

    def on_step_end(self, trainer, metrics):
        self.steps += 1
        trainer.model.bias.data.add_(1e-3 * self.steps)


def forgets_its_state(self):
    trainer = LineRun.make_trainer(self)
    trainer.callbacks.append(CountsEpochs())
    return trainer


def resumes_silently(self):
    random.random()
    print(f"resumed: {self.resumed}")


def saves_once(self):
    trainer = LineRun.make_trainer(self)
    trainer.checkpoint_every = 12
    return trainer


def refuses_after_writing(self):
    if self.options.resume and (self.folder / RECIPE_FILE).exists():
        shutil.copy(self.folder / RECIPE_FILE, self.folder / "recipe.old")
    return LineRun.read_data(self)


def loses_the_checkpoint(self):
    (self.folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return LineRun.make_trainer(self)


def each_prints(self):
    os.write(1, b"hello from every process")
    return Linear(1, 1)


def each_its_own(self):
    torch.manual_seed(int(os.environ.get("RANK", 0)) + int(os.environ.get("WORLD_SIZE", 1)))
    return Linear(1, 1)


def never_ends_early(self):
    return 12


@dataclass
class LooseOptions(LineOptions):
    slope: float = option(2.0, "may be changed, though it must not", may_change=True)


FAULTS = [
    faulty("mistakes", "has made the folder", given={"mistakes": {"--slope 0": "flat"}}, read_data=writes_early),
    faulty("mistakes", "expected status 2", given={"mistakes": {"--lr 2": "two"}}, build_model=fails_loudly),
    faulty("mistakes", "expected 'three' in it", given={"mistakes": {"--epochs 0": "three"}}),
    faulty("folder", "leaves notes.json, which the recipe does not name", plot=forgets_a_file),
    faulty("folder", "a run in the place of another does not end", read_data=draws_points),
    faulty("folder", "has left best.safetensors, notes.txt", _open_folder=keeps_old_weights),
    faulty("refused", "--resume --slope 3", options=LooseOptions),
    faulty("refused", "--resume --epochs 1", count_steps=never_ends_early),
    faulty("refused", "has changed the folder", read_data=refuses_after_writing),
    faulty("refused", "--resume --lr 9", given={"other_data": "--lr 9"}),
    faulty("damaged", "has changed the folder", read_data=refuses_after_writing),
    faulty("longer", "ends at step 12, expected more than 12", count_steps=never_ends_early),
    faulty("longer", "printed 'resumed: True', which the unbroken run did not", write_folder=resumes_silently),
    faulty("full disk", "ended with status 0", count_steps=never_ends_early),
    faulty("interrupt", "does not end where the unbroken run ends", make_trainer=forgets_its_state),
    faulty("killed", "does not end where the unbroken run ends", make_trainer=forgets_its_state),
    faulty("killed", "has a single checkpoint", make_trainer=saves_once),
    faulty("interrupt", "is missing, which this run has written", make_trainer=loses_the_checkpoint),
    faulty("together", "the second of two processes prints", build_model=each_prints),
    faulty("together", "of one process", build_model=each_its_own),
]


@pytest.mark.parametrize(("part", "message", "recipe", "given"), FAULTS)
def test_planted_faults(part, message, recipe, given):
    with pytest.raises(CheckFailed) as failure:
        check(recipe, part, **given)
    assert failure.value.check == part
    assert message in str(failure.value)


def test_gradients_that_disagree():
    class Wrong:
        ok = False

        def __str__(self):
            return "a table"

    with pytest.raises(CheckFailed, match="ds check line ended with status 1, expected 0:\\n    a table"):
        check(replace(line, check=Wrong), "gradients")
