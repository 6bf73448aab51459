"""Runs of the recipe `minigpt` that are killed, resumed or overwritten: nothing is lost that was not meant to be."""

import json
import subprocess
import sys

import pytest
import safetensors.torch
from ds_core.errors import UserError
from ds_core.text.tokenizers import load_tokenizer
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_zoo.minigpt import MiniGPT, training

# Runs `ds` and kills it (kill -9, or Ctrl-C) in the middle of the count-th call of a function.
STOPPED = """
import os, signal, sys
import ds_core.optimizers.adam
from ds_core.cli.main import main

place, number, count = sys.argv[1], getattr(signal, sys.argv[2]), int(sys.argv[3])
owner, name = {"step": (ds_core.optimizers.adam.AdamW, "step"), "rename": (os, "replace")}[place]
inner, calls = getattr(owner, name), 0

def stopping(*arguments, **options):
    global calls
    if place == "step" or str(arguments[1]).endswith("checkpoint.safetensors"):
        calls += 1
        if calls == count:
            if place == "step":
                inner(*arguments, **options)
            os.kill(os.getpid(), number)
    return inner(*arguments, **options) if place != "step" or calls != count else None

setattr(owner, name, stopping)
sys.exit(main(sys.argv[4:]))
"""


def test_killed_at_any_moment_and_resumed_ends_where_the_unbroken_run_ends(
    text, tmp_path, tiny, trained_weights, equal
):
    options = tiny(steps=20, evaluate_every=6, checkpoint_every=4, threads=1)

    def start(out, script, *more):
        arguments = ["train", "minigpt", "--text", str(text), "--out", str(out), *options]
        return subprocess.Popen(
            [sys.executable, *script, *arguments, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(process):
        printed, complaints = process.communicate(timeout=120)
        return process.returncode, printed, complaints

    def stop(place, signal, count):
        return ["-c", STOPPED, place, signal, str(count)]

    unbroken = start(tmp_path / "unbroken", ["-m", "ds_core.cli"])
    out = tmp_path / "killed"
    assert finish(start(out, stop("step", "SIGKILL", 2)))[0] == -9  # before the first checkpoint
    assert not (out / CHECKPOINT_FILE).exists()
    assert finish(start(out, stop("rename", "SIGKILL", 2), "--resume"))[0] == -9  # while the second is written
    assert [path for path in out.iterdir() if path.name.endswith(".tmp")]
    assert finish(start(out, stop("step", "SIGKILL", 3), "--resume"))[0] == -9  # between two checkpoints: after step 4
    status, _, complaints = finish(start(out, stop("step", "SIGINT", 5), "--resume"))
    assert status == 130
    assert "--resume" in complaints.splitlines()[-1]
    assert "Traceback" not in complaints
    status, _, complaints = finish(start(out, ["-m", "ds_core.cli"], "--resume"))
    assert status == 0, complaints
    assert "resuming after step 9" in complaints
    assert finish(unbroken)[0] == 0
    assert equal(trained_weights(out), trained_weights(tmp_path / "unbroken"))
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    models = [safetensors.torch.load_file(folder / "model.safetensors") for folder in (out, tmp_path / "unbroken")]
    assert equal(*models)
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines() if '"train"' in line]
    assert steps == [*range(1, 21)]


def test_resumed_run_may_be_longer(ds, trained, complaint):
    resume = ("train", "minigpt", "--out", trained, "--resume", "--steps")
    assert ds(*resume, 6)[0] == 0
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [*range(1, 7)]
    before = (trained / "recipe.json").read_bytes()
    assert "beyond" in complaint(ds(*resume, 2))
    assert (trained / "recipe.json").read_bytes() == before


def test_fewer_steps_than_the_warm_up_are_beyond_the_run_too(run, complaint):
    assert run(warmup_steps=3)[0] == 0
    assert "the run is at step 4 already, beyond the 2 steps" in complaint(run("--resume", warmup_steps=3, steps=2))


def test_resumed_run_has_as_many_threads_as_it_began_with(run, complaint):
    assert run(threads=1)[0] == 0
    assert run("--resume", threads=1, steps=5)[0] == 0
    assert "--threads: given 2, the run began with 1" in complaint(run("--resume", threads=2, steps=6))


def test_the_text_may_move(run, ds, text, tmp_path, complaint):
    assert run()[0] == 0
    moved = text.rename(tmp_path / "moved.txt")
    resume = ("train", "minigpt", "--out", tmp_path / "out", "--resume", "--steps", 5)
    assert "cannot read the text" in complaint(ds(*resume))
    assert ds(*resume, "--text", moved)[0] == 0


def test_resuming_what_is_not_there_or_another(run, text, tmp_path, complaint, trained_weights, equal):
    assert "no run folder" in complaint(run("--resume", out=tmp_path / "nothing"))
    assert run()[0] == 0
    before = trained_weights(tmp_path / "out")
    assert "--width: given 4, the run began with 8" in complaint(run("--resume", width=4))
    text.write_text(text.read_text()[::-1])
    assert "is not as it was when the run began" in complaint(run("--resume", steps=6))
    text.write_text("entirely different, with UNSEEN characters" * 20)
    assert "character the tokenizer never saw" in complaint(run("--resume", steps=6))
    assert equal(trained_weights(tmp_path / "out"), before)


def test_a_resume_that_is_refused_changes_nothing(run, ds, text, tmp_path, complaint):
    out = tmp_path / "out"
    assert run()[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[::-1])
    resume = ("train", "minigpt", "--out", out, "--resume", "--steps", 6)
    assert "is not as it was when the run began" in complaint(ds(*resume, "--text", other))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert ds(*resume)[0] == 0
    assert json.loads((out / "recipe.json").read_text())["options"]["steps"] == 6
    assert ds("train", "minigpt", "--out", out, "--resume", "--steps", 7)[0] == 0
    assert ds("train", "minigpt", "--out", out, "--resume")[0] == 0


class Killed(BaseException):
    """In place of kill -9: nothing catches it."""


def test_killed_while_overwriting_leaves_nothing_of_the_run_before(run, text, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert run()[0] == 0
    old = load_tokenizer(out / "tokenizer.json")
    text.write_text("a cat sat on the mat\n" * 20)

    def kill(*arguments):
        raise Killed

    def killed(owner, name, *more):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill)
            with pytest.raises(Killed):
                run(*more)

    killed(training, "build_trainer", "--overwrite")
    assert not (out / CHECKPOINT_FILE).exists()
    assert (out / "tokenizer.json").read_text() == old.to_json()
    killed(training.Trainer, "fit", "--resume")
    assert not {"config.json", "model.safetensors", "loss.png"} & {path.name for path in out.iterdir()}
    assert run("--resume")[0] == 0
    assert load_tokenizer(out / "tokenizer.json").decode(range(4)) == "\n ac"


def test_a_folder_that_exists_is_left_alone(run, tmp_path, complaint):
    out = tmp_path / "out"
    assert run()[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "already holds a run of minigpt" in complaint(run())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run("--overwrite", width=4)[0] == 0
    assert MiniGPT.from_pretrained(out).config.width == 4
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    for more in ([], ["--overwrite"]):
        assert "is not empty and holds no run" in complaint(run(*more, out=tmp_path / "letters"))
    assert (tmp_path / "letters" / "mother.txt").read_text() == "dear"


def test_a_model_that_cannot_be_built_deletes_nothing(run, tmp_path, monkeypatch, complaint):
    assert run()[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def too_large(options, vocab_size):
        raise UserError("no memory for it")

    monkeypatch.setattr(training, "build_model", too_large)
    assert "no memory for it" in complaint(run("--overwrite"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
