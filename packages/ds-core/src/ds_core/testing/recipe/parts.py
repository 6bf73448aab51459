"""The parts of a recipe's check, each a function of the recipe under test. What they are for: docs/recipes.md."""

import json
import os
import shlex
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ds_core.testing.recipe.mishaps import (
    damaged_checkpoints,
    kill_amid_line,
    kill_amid_write,
    limit_files,
    signal_after_step,
)
from ds_core.testing.recipe.outcome import logged
from ds_core.testing.recipe.sessions import Ended, Session
from ds_core.testing.recipe.under_test import RecipeUnderTest, Words, content, known_files, split
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, RECIPE_FILE
from ds_core.training.run_options import RunOptions

Refusals = Mapping[str, str]  # words, and what the error says


def check_gradients(recipe: RecipeUnderTest) -> None:
    """`ds check` finds all gradients right, in fast and in plain form."""
    if recipe.recipe.check is None:
        return
    for words in ([], ["--plain"]):
        ended = recipe.session("check", recipe.recipe.name, *words)
        recipe.expect(ended, 0, " ".join(["ds check", recipe.recipe.name, *words]))


def check_mistakes(recipe: RecipeUnderTest, mistakes: Refusals) -> None:
    """Options that cannot be used are refused in one line, and no folder is made."""
    usual = {"--no-such-option 1": "unknown option --no-such-option"}
    if issubclass(recipe.recipe.options, RunOptions):
        usual |= {
            "--resume --overwrite": "--resume and --overwrite contradict",
            "--device abacus": "--device abacus cannot be used here",
            "--device meta": "--device meta cannot be used here",
            "--seed -1": "--seed: given -1, expected at least 0",
            "--threads 0": "--threads: given 0, expected at least 1",
            "--threads 1000000": "--threads: given 1000000, expected at most",
            "--out ''": "--out: given an empty text, expected a path",
        }
    out = recipe.folder / "run"
    for words, message in {**usual, **mistakes}.items():
        ended = recipe.train(*recipe.words, *split(words), out=out)
        recipe.expect_complaint(ended, message, words, (2,))
        if out.exists():
            recipe.fail(f"{words} is refused, but has made the folder --out")
    (recipe.folder / "file").touch()
    below = recipe.folder / "file" / "run"
    recipe.expect_complaint(recipe.train(*recipe.words, out=below), "cannot use", "a folder below a file")


def check_folder(recipe: RecipeUnderTest) -> None:
    """A run is never mixed with what is in the folder, and --overwrite leaves nothing of the run before."""
    out = recipe.folder / "run"
    recipe.expect(recipe.train(*recipe.words, *["--plots"] * recipe.draws, out=out), 0, "a run with plots")
    unknown = sorted({path.name for path in out.iterdir()} - known_files(out))
    if unknown:
        recipe.fail(f"a run leaves {', '.join(unknown)}, which the recipe does not name in its `files`")
    letters = recipe.folder / "letters"
    letters.mkdir()
    (letters / "mother.txt").write_text("dear")
    for more in ([], ["--overwrite"]):
        ended = recipe.train(*recipe.words, *more, out=letters)
        recipe.expect_complaint(ended, "is not empty and holds no run", f"a foreign folder {' '.join(more)}")
    if content(letters) != {"mother.txt": b"dear"}:
        recipe.fail("a folder that holds no run was changed")
    before = content(out)
    ended = recipe.train(*recipe.words, out=out)
    recipe.expect_complaint(ended, f"already holds a run of {recipe.recipe.name}", "a folder with a run")
    if issubclass(recipe.recipe.options, RunOptions):
        ended = recipe.train(*recipe.words, "--overwrite", "--device", "abacus", out=out)
        recipe.expect_complaint(ended, "cannot be used here", "--overwrite --device abacus")
    if content(out) != before:
        recipe.fail("a folder with a run was changed by one that was refused")
    (out / "notes.txt").write_text("mine")
    for path in out.iterdir():
        os.utime(path, (0, 0))
    died = recipe.train(*recipe.words, "--overwrite", out=out, prepare=partial(signal_after_step, 1, signal.SIGKILL))
    recipe.expect(died, -signal.SIGKILL, "--overwrite, killed after a step,")
    old = [path.name for path in out.iterdir() if path.stat().st_mtime == 0]
    if old != ["notes.txt"]:
        recipe.fail(f"--overwrite, killed after a step, has left {', '.join(sorted(old))}, expected notes.txt alone")
    (out / "notes.txt").unlink()
    recipe.expect(recipe.train(*recipe.words, "--overwrite", out=out), 0, "--overwrite")
    recipe.expect_equal(out, "a run in the place of another")


def check_refused(recipe: RecipeUnderTest, shorter: Words, changed: Refusals, other_data: Words) -> None:
    """A --resume that is refused leaves the folder as it was."""
    nothing = recipe.folder / "nothing"
    recipe.expect_complaint(recipe.train("--resume", out=nothing), "no run folder", "--resume where there is no run")
    if nothing.exists():
        recipe.fail("--resume where there is no run has made a folder")
    out = recipe.copy()
    with open(out / LOG_FILE, "a") as log:  # as if killed in the step after: to resume would cut the line off
        log.write(json.dumps({**logged(out)[-1], "step": recipe.steps + 1}) + "\n")
    refusals = dict(changed)
    if shorter:
        refusals[shlex.join(split(shorter))] = f"the run is at step {recipe.steps} already, beyond the"
    if other_data:
        refusals[shlex.join(split(other_data))] = "the run began with other data"
    for words, message in refusals.items():
        _expect_refused(recipe, out, words, message)
    record = json.loads((out / RECIPE_FILE).read_text())
    (out / RECIPE_FILE).write_text(json.dumps({**record, "recipe": "another"}))
    _expect_refused(recipe, out, "", f"holds a run of another, not of {recipe.recipe.name}")


def check_damaged(recipe: RecipeUnderTest) -> None:
    """A damaged file is named when the run is to be resumed, and left as it is."""
    out = recipe.copy()
    for name, damages in ((CHECKPOINT_FILE, damaged_checkpoints), (RECIPE_FILE, _damaged_json)):
        whole = (out / name).read_bytes()
        for damaged in damages(whole).values():
            (out / name).write_bytes(damaged)
            _expect_refused(recipe, out, "", name)
        (out / name).write_bytes(whole)
    (out / LOG_FILE).write_text('{"time": 1}\n')
    _expect_refused(recipe, out, "", f"{LOG_FILE} is no log of a training run")


def check_lost(recipe: RecipeUnderTest) -> None:
    """A run whose checkpoint is gone is not begun anew in silence: --resume is refused, and the folder stays."""
    stopped = recipe.folder / "stopped"
    ended = recipe.train(*recipe.words, out=stopped, prepare=partial(signal_after_step, 1, signal.SIGINT))
    recipe.expect(ended, 130, "Ctrl-C in the first step")
    for out in (stopped, recipe.copy()):
        (out / CHECKPOINT_FILE).rename(out / "elsewhere")
        _expect_refused(recipe, out, "", f"{CHECKPOINT_FILE} is missing, which this run has written")
        (out / CHECKPOINT_FILE).symlink_to(recipe.folder / "another disk")
        _expect_refused(recipe, out, "", f"{CHECKPOINT_FILE} is a link to {recipe.folder / 'another disk'}, which is")
        (out / CHECKPOINT_FILE).unlink()
        (out / "elsewhere").rename(out / CHECKPOINT_FILE)
        recipe.expect(recipe.train("--resume", out=out), 0, "--resume when the checkpoint is back")
        recipe.expect_equal(out, "a run that had lost its checkpoint for a while")


def check_in_use(recipe: RecipeUnderTest) -> None:
    """While a run trains, its folder is nobody else's, and it ends as if nobody had asked for it."""
    out = recipe.folder / "in use"
    words = ["train", recipe.recipe.name, "--out", str(out), *recipe.words]
    step = recipe.steps // 2
    running = Session(recipe.recipe, words, recipe.folder, partial(signal_after_step, step, signal.SIGSTOP))
    running.wait_until_paused()
    leftover = out / f".{CHECKPOINT_FILE}.1.tmp"  # as if it were about to write
    leftover.mkdir()
    before = content(out)
    for more in ([*recipe.words], [*recipe.words, "--overwrite"], ["--resume"]):
        ended = recipe.train(*more, out=out)
        recipe.expect_complaint(ended, f"{out} is in use", f"a second run in the folder, {' '.join(more)}")
        if content(out) != before or not leftover.exists():
            recipe.fail(f"a second run, {' '.join(more)}, has changed the folder of one that trains")
    leftover.rmdir()
    running.go_on()
    recipe.expect(running.wait(), 0, "a run that others have asked for the folder of")
    recipe.expect_equal(out, "a run that others have asked for the folder of")
    killed = recipe.folder / "killed"
    words = ["train", recipe.recipe.name, "--out", str(killed), *recipe.words]
    running = Session(recipe.recipe, words, recipe.folder, partial(signal_after_step, step, signal.SIGSTOP))
    running.wait_until_paused()
    running.go_on(signal.SIGKILL)
    running.wait()
    recipe.expect(recipe.train("--resume", out=killed), 0, "--resume of a run that was killed while it held the folder")
    recipe.expect_equal(killed, "a run that was killed while it held the folder")


def check_longer(recipe: RecipeUnderTest, longer: Words) -> None:
    """A finished run that is resumed stays as it is, and may be trained further."""
    out = recipe.copy()
    ended = recipe.train("--resume", out=out)
    recipe.expect(ended, 0, "--resume of a finished run")
    recipe.expect_equal(out, "a finished run that is resumed")
    recipe.expect_same_lines(ended, out, "a finished run that is resumed")
    if longer:
        words = split(longer)
        recipe.expect(recipe.train("--resume", *words, out=out), 0, f"--resume {shlex.join(words)}")
        step = describe_checkpoint(out / CHECKPOINT_FILE).step
        if step <= recipe.steps:
            recipe.fail(f"--resume {shlex.join(words)} ends at step {step}, expected more than {recipe.steps}")
        recipe.expect_each_step_once(out, step)
        recipe.expect(recipe.train("--resume", out=out), 0, "--resume of the longer run")
        if describe_checkpoint(out / CHECKPOINT_FILE).step != step:
            recipe.fail(f"--resume forgets the {shlex.join(words)} that the run was resumed with before")


def check_full_disk(recipe: RecipeUnderTest, longer: Words) -> None:
    """A disk that is full is reported in one line; the last checkpoint is still there, and the run can continue."""
    out = recipe.copy()
    whole = (out / CHECKPOINT_FILE).read_bytes()
    words = ["--resume", *split(longer)]
    ended = recipe.train(*words, out=out, prepare=partial(limit_files, len(whole) // 2))
    recipe.expect_complaint(ended, "cannot write", "a run whose disk is full")
    if (out / CHECKPOINT_FILE).read_bytes() != whole:
        recipe.fail("a run whose disk is full has lost its last checkpoint")
    recipe.expect(recipe.train(*words, out=out), 0, "--resume when the disk has room again")


def check_interrupt(recipe: RecipeUnderTest) -> None:
    """Ctrl-C finishes the step, saves, ends with status 130, and says what to type; typed, that ends the run."""
    out, step = recipe.folder / "a b's", recipe.steps // 2
    ended = recipe.train(*recipe.words, out=out, prepare=partial(signal_after_step, step, signal.SIGINT))
    recipe.expect(ended, 130, "Ctrl-C")
    _, found, typed = ended.err.rstrip().splitlines()[-1].partition("to continue: ds ")
    if "finishing this step" not in ended.err or not found:
        recipe.fail(f"Ctrl-C says {ended.err[-500:]!r}, expected 'finishing this step' and at last what to type")
    if describe_checkpoint(out / CHECKPOINT_FILE).step != step:
        recipe.fail(f"Ctrl-C in step {step} saved another step")
    ended = recipe.session(*shlex.split(typed))
    recipe.expect(ended, 0, f"ds {typed}")
    if f"resuming after step {step}" not in ended.err:
        recipe.fail(f"ds {typed} does not resume after step {step}, but says {ended.err[:200]!r}")
    recipe.expect_equal(out, "a run stopped by Ctrl-C and resumed")
    recipe.expect_each_step_once(out, recipe.steps)


def check_killed(recipe: RecipeUnderTest) -> None:
    """Killed at many moments and resumed each time, a run ends bit for bit where the unbroken one ends."""
    _, writes, _ = recipe.finished()
    if writes.count(CHECKPOINT_FILE) < 2:
        recipe.fail("the run has a single checkpoint: give options with which it writes two or more")
    out = recipe.folder / "killed"

    def killed(what: str, prepare: Any) -> None:
        died = _continue(recipe, out, prepare)
        recipe.expect(died, -signal.SIGKILL, f"a session to be killed {what}")

    killed("after the first step", partial(signal_after_step, 1, signal.SIGKILL))
    names = list(dict.fromkeys(writes))
    after = names.index(CHECKPOINT_FILE) + 1
    for name in names[:after]:
        killed(f"amid {name}", partial(kill_amid_write, name))
    killed("amid the second checkpoint", partial(kill_amid_write, CHECKPOINT_FILE, 2))
    step = describe_checkpoint(out / CHECKPOINT_FILE).step + 1
    killed(f"amid the log's line of step {step}", partial(kill_amid_line, step))
    for name in names[after:]:
        killed(f"amid {name}", partial(kill_amid_write, name))
    ended = _continue(recipe, out)
    recipe.expect(ended, 0, "the last session of a run that was killed before")
    recipe.expect_equal(out, "a run killed and resumed")
    recipe.expect_each_step_once(out, recipe.steps)
    recipe.expect_same_lines(ended, out, "the last session of a run that was killed before")


def _continue(recipe: RecipeUnderTest, out: Path, prepare: Any = None) -> Ended:
    """Resume the run in `out`, or begin it if it was killed before its folder was complete."""
    began = (out / RECIPE_FILE).exists()
    return recipe.train(*(["--resume"] if began else recipe.words), out=out, prepare=prepare)


def _expect_refused(recipe: RecipeUnderTest, out: Path, words: str, message: str) -> None:
    before = content(out)
    recipe.expect_complaint(recipe.train("--resume", *split(words), out=out), message, f"--resume {words}")
    if content(out) != before:
        recipe.fail(f"--resume {words} is refused, but has changed the folder")


def _damaged_json(whole: bytes) -> dict[str, bytes]:
    return {"truncated": whole[:-9], "empty": b"", "not UTF-8": b"\xff\xfe", "a list": b"[]"}
