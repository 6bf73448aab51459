"""Runs of the recipe `translate` that are killed, resumed or overwritten: nothing is lost that was not meant to be."""

import json
import subprocess
import sys

import pytest
import torch
from attention_twins import without_key_bias
from ds_core.errors import UserError
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_transformers.translation import reporting, training
from ds_transformers.translation.translating import load_translator

# Runs `ds` and kills it (kill -9, or Ctrl-C) in the middle of the count-th call of a function: an optimizer step, the
# renaming of the checkpoint, that of the final weights.
STOPPED = """
import os, signal, sys
import ds_core.optimizers.adam
from ds_core.cli.main import main

place, number, count = sys.argv[1], getattr(signal, sys.argv[2]), int(sys.argv[3])
owner, name = (ds_core.optimizers.adam.AdamW, "step") if place == "step" else (os, "replace")
inner, calls = getattr(owner, name), 0

def stopping(*arguments, **options):
    global calls
    if place == "step" or str(arguments[1]).endswith(place):
        calls += 1
        if calls == count:
            if place == "step":
                inner(*arguments, **options)
            os.kill(os.getpid(), number)
    return inner(*arguments, **options) if place != "step" or calls != count else None

setattr(owner, name, stopping)
sys.exit(main(sys.argv[4:]))
"""


def start(arguments, script=("-m", "ds_core.cli")):
    return subprocess.Popen(
        [sys.executable, *script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    printed, complaints = process.communicate(timeout=300)
    return process.returncode, printed, complaints


def test_killed_at_any_moment_and_resumed_ends_where_the_unbroken_run_ends(
    sentences, tmp_path, tiny, trained_weights, equal
):
    options = tiny(epochs=7, average=3, checkpoint_every=4, threads=1, plots=False)

    def command(out, *more):
        return ["train", "translate", "--pairs", sentences, "--out", out, *options, *more]

    def stop(place, signal, count):
        return ["-c", STOPPED, place, signal, str(count)]

    unbroken = start(command(tmp_path / "unbroken"))
    out = tmp_path / "killed"
    assert finish(start(command(out), stop("step", "SIGKILL", 2)))[0] == -9  # before the first checkpoint
    assert not (out / CHECKPOINT_FILE).exists()
    assert finish(start(command(out, "--resume"), stop(CHECKPOINT_FILE, "SIGKILL", 2)))[0] == -9  # amid the second
    assert [path for path in out.iterdir() if path.name.endswith(".tmp")]
    assert finish(start(command(out, "--resume"), stop("best.safetensors", "SIGKILL", 1)))[0] == -9  # amid the best
    status, _, complaints = finish(start(command(out, "--resume"), stop("step", "SIGINT", 5)))
    assert status == 130
    assert f"ds train translate --out {out} --resume" in complaints.splitlines()[-1]
    assert "Traceback" not in complaints
    status, _, complaints = finish(start(command(out, "--resume"), stop("final.safetensors", "SIGKILL", 1)))  # at last
    assert status == -9
    assert "resuming after step 9" in complaints
    assert not (out / "final.safetensors").exists()
    status, printed, complaints = finish(start(["train", "translate", "--out", out, "--resume"]))
    assert status == 0, complaints
    status, expected, complaints = finish(unbroken)
    assert status == 0, complaints
    assert "the mean of steps 15, 18, 21" in printed
    for file in (CHECKPOINT_FILE, "best.safetensors", "final.safetensors"):
        assert equal(trained_weights(out, file), trained_weights(tmp_path / "unbroken", file))
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]
    results = [json.loads((folder / "results.json").read_text()) for folder in (out, tmp_path / "unbroken")]
    assert {**results[0], "seconds": 0} == {**results[1], "seconds": 0}
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines() if '"train"' in line]
    assert steps == [*range(1, 22)]
    shown = [text[: text.index("weights of")].split("\n", 1)[1] for text in (printed, expected)]
    assert shown[0] == shown[1]


def test_two_processes_train_the_model_of_one(run, sentences, tmp_path, tiny, trained_weights, monkeypatch):
    options = {"dtype": "float64", "dropout": 0, "epochs": 1, "plots": False}
    assert run(**options)[0] == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ds_core.cli"]
    command = ["train", "translate", "--pairs", sentences, "--out", tmp_path / "two", *tiny(**options)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    status, printed, complaints = finish(start(command, torchrun))
    assert status == 0, complaints
    assert printed.count("try next") == printed.count("a Transformer with") == 1
    one, two = trained_weights(tmp_path / "out"), trained_weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        found, expected = (without_key_bias(name, given) for given in (two[name], tensor))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert load_translator(tmp_path / "two").translate(["the cat"], max_length=5)


def test_resumed_run_may_be_longer_not_shorter(ds, trained, complaint, content):
    resume = ("train", "translate", "--out", trained, "--resume", "--epochs")
    before = content(trained)
    step = describe_checkpoint(trained / CHECKPOINT_FILE).step
    said = f"--epochs 2: the run is at step {step} already, beyond the 6 steps of so many"
    assert said in complaint(ds(*resume, 2))
    assert content(trained) == before
    assert ds(*resume, 41)[0] == 0
    assert describe_checkpoint(trained / CHECKPOINT_FILE).step == step + step // 40
    assert json.loads((trained / "recipe.json").read_text())["options"]["epochs"] == 41
    assert ds("train", "translate", "--out", trained, "--resume")[0] == 0


def test_a_resume_that_is_refused_changes_nothing(run, ds, sentences, tmp_path, complaint, content):
    out = tmp_path / "out"
    assert run()[0] == 0
    before = content(out)
    resume = ("train", "translate", "--out", out, "--resume", "--epochs", 3)
    other = tmp_path / "other.tsv"
    lines = sentences.read_text("utf-8").splitlines()
    for changed in (lines[1:], [lines[0] + "!", *lines[1:]], ["a" + line for line in lines]):
        other.write_text("\n".join(changed), "utf-8")
        assert "not the pairs, or not the tokens, that the run began with" in complaint(ds(*resume, "--pairs", other))
    assert "--width: given 4, the run began with 8" in complaint(ds(*resume, "--width", 4))
    assert "--average: given 2, the run began with 1" in complaint(ds(*resume, "--average", 2))
    assert "--source-language: given fr, the run began with en" in complaint(ds(*resume, "--source-language", "fr"))
    assert content(out) == before
    # the same pairs may lie elsewhere
    other.write_text("\n".join(lines), "utf-8")
    assert ds(*resume, "--pairs", other)[0] == 0
    assert json.loads((out / "recipe.json").read_text())["options"]["pairs"] == str(other)


def test_a_tokenizer_that_is_another_is_refused(run, ds, tmp_path, complaint, content):
    """One with as many tokens, which nothing else would notice."""
    assert run()[0] == 0
    out = tmp_path / "out"
    path = out / "tokenizer.source.json"
    stored = json.loads(path.read_text())
    numbers = stored["model"]["vocab"]
    numbers["."], numbers["?"] = numbers["?"], numbers["."]
    path.write_text(json.dumps(stored))
    before = content(out)
    assert "not the tokens" in complaint(ds("train", "translate", "--out", out, "--resume", "--epochs", 3))
    assert content(out) == before


def test_resuming_what_is_not_there_or_another(run, ds, tmp_path, complaint):
    assert "no run folder" in complaint(run("--resume", out=tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()
    points = ["--dataset", "xor", "--out", tmp_path / "points", "--epochs", 1, "--no-plots"]
    assert ds("train", "perceptron", *points)[0] == 0
    assert "holds a run of perceptron, not of translate" in complaint(
        ds("train", "translate", "--out", tmp_path / "points", "--resume")
    )


class Killed(BaseException):
    """In place of kill -9: nothing catches it."""


def test_killed_while_overwriting_leaves_nothing_of_the_run_before(run, sentences, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert run(plots=True)[0] == 0
    old = (out / "tokenizer.source.json").read_text()
    sentences.write_text(sentences.read_text("utf-8").replace("the", "that"), "utf-8")

    def kill(*arguments):
        raise Killed

    def killed(owner, name, *more):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill)
            with pytest.raises(Killed):
                run(*more)

    killed(training, "_trainer", "--overwrite")
    assert not (out / CHECKPOINT_FILE).exists()
    assert (out / "tokenizer.source.json").read_text() == old
    killed(training.Trainer, "fit", "--resume")
    assert {path.name for path in out.iterdir()} - {"log.jsonl"} == {
        *("recipe.json", "tokenizer.source.json", "tokenizer.target.json")
    }
    assert (out / "tokenizer.source.json").read_text() != old
    assert run("--resume")[0] == 0


def test_a_folder_that_exists_is_left_alone(run, tmp_path, complaint, content):
    out = tmp_path / "out"
    assert run()[0] == 0
    before = content(out)
    assert "already holds a run of translate" in complaint(run())
    assert content(out) == before
    assert run("--overwrite", width=4)[0] == 0
    assert load_translator(out).model.config.width == 4
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("dear")
    for more in ([], ["--overwrite"]):
        assert "is not empty and holds no run" in complaint(run(*more, out=tmp_path / "letters"))
    assert (tmp_path / "letters" / "mother.txt").read_text() == "dear"


def test_a_model_that_cannot_be_built_deletes_nothing(run, tmp_path, monkeypatch, complaint, content):
    assert run()[0] == 0
    before = content(tmp_path / "out")

    def too_large(*arguments):
        raise UserError("no memory for it")

    monkeypatch.setattr(training, "build_model", too_large)
    assert "no memory for it" in complaint(run("--overwrite"))
    assert content(tmp_path / "out") == before


def test_stopped_while_the_test_sentences_are_translated(run, ds, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reporting.Translator, "translate", stop)
        status, _, complaints = run()
    assert (status, complaints.splitlines()[-1]) == (130, "ds: stopped")
    assert "\n2" not in complaints
    status, printed, _ = ds("train", "translate", "--out", tmp_path / "out", "--resume")
    assert status == 0
    assert "test sentences" in printed
    assert (tmp_path / "out" / "results.json").exists()
