import json
import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from ds_core.cli import main
from ds_core.errors import UserError
from ds_core.run_folder import CHECKPOINT_FILE
from ds_zoo.minigpt import MiniGPT, MiniGPTConfig, training
from ds_zoo.minigpt.options import PRESETS, TrainOptions
from ds_zoo.minigpt.training import parameter_groups, whole_loss
from ds_zoo.text_tokenizers import load_tokenizer

CPU = torch.device("cpu")
TINY = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "block_size": 8,
    "batch_size": 2,
    "steps": 4,
    "evaluate_every": 2,
    "evaluate_batches": 2,
    "dropout": 0.1,
}


def words(options):
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    draw = random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(["to", "be", "or", "not"], k=8)) for _ in range(40)))
    return path


@pytest.fixture
def run(text, tmp_path, capsys):
    """Train a tiny model into `out`; returns exit status, what was printed, and what was complained about."""

    def train(*more, out=tmp_path / "out", **options):
        arguments = ["train", "minigpt", "--text", str(text), "--out", str(out)]
        status = main([*arguments, *words({**TINY, **options}), *map(str, more)])
        printed, complaints = capsys.readouterr()
        return status, printed, complaints

    return train


@pytest.fixture(scope="module")
def model_run(tmp_path_factory):
    """A folder with a finished run in it, made once."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "text.txt").write_text("to be or not to be\n" * 20)
    assert main(["train", "minigpt", "--text", f"{folder}/text.txt", "--out", f"{folder}/out", *words(TINY)]) == 0
    return folder


@pytest.fixture
def trained(model_run, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(model_run / "out", tmp_path / "trained"))


@pytest.fixture
def ds(capsys):
    """Any other command; what it returned, printed and complained about."""

    def command(*arguments):
        capsys.readouterr()
        return main([str(argument) for argument in arguments]), *capsys.readouterr()

    return command


def complaint(result):
    """The one line that a failed command ends with; progress and notes may stand before it."""
    status, _, complaints = result
    assert status not in (0, None)
    lines = [line for line in complaints.splitlines() if line.startswith("ds: error:")]
    assert len(lines) == 1, complaints
    assert complaints.rstrip().endswith(lines[0])
    assert "Traceback" not in complaints
    return lines[0]


def trained_weights(folder):
    tensors = safetensors.torch.load_file(folder / CHECKPOINT_FILE)
    weights = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    assert weights
    return weights


def validation_tokens(text, folder):
    whole = text.read_text()
    return load_tokenizer(folder / "tokenizer.json").encode(whole[int(len(whole) * 0.9) :])


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_from_text_to_text(run, text, tmp_path, capsys):
    status, printed, _ = run()
    out = tmp_path / "out"
    assert status == 0
    files = {"checkpoint.safetensors", "config.json", "model.safetensors", "tokenizer.json", "log.jsonl", "loss.png"}
    assert files <= {path.name for path in out.iterdir()}
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    for said in ("before training", "after training", "whole validation split", "loss.png", "try next", "ds generate"):
        assert said in printed
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [1, 2, 3, 4]
    assert [line["step"] for line in log if line["kind"] == "evaluation"] == [2, 4]
    # the loss over the whole split, by transformers and one block after the other
    tokens = validation_tokens(text, out)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(out).eval()
    total = 0.0
    for start in range(0, len(tokens) - 1, 8):
        targets = tokens[start + 1 : start + 9]
        with torch.no_grad():
            logits = theirs(tokens[None, start : start + len(targets)]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
    assert f"({len(tokens) - 1:,} tokens): {total / (len(tokens) - 1):.4f} nats" in printed

    texts = []
    for more in (
        ["--seed", "1"],
        ["--seed", "1", "--no-stream"],
        ["--seed", "2"],
        ["--weights", "last", "--seed", "1"],
    ):
        assert main(["generate", str(out), "--prompt", "to be", "--tokens", "30", *more]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("to be")
    assert len(texts[0]) == len("to be") + 30 + 1


def test_bpe_and_other_options(run, tmp_path, capsys):
    options = {"tokenizer": "bpe", "vocab_size": 260, "dtype": "bfloat16", "accumulate": 2, "clip_norm": 0}
    status, printed, _ = run("--bias", sample_every=2, **options)
    assert status == 0
    assert "260 different ones" in printed
    assert "after 2 steps, it writes" in printed
    assert MiniGPT.from_pretrained(tmp_path / "out").config.bias is True
    assert main(["generate", str(tmp_path / "out"), "--prompt", "nie gesehen: 日", "--tokens", "5"]) == 0
    assert "日" in capsys.readouterr().out


def test_a_text_of_one_line_has_a_prompt_too(run, ds, text, tmp_path):
    text.write_text("to be or not to be " * 20)
    assert run()[0] == 0
    status, printed, _ = ds("generate", tmp_path / "out", "--tokens", 3, "--seed", 0)
    assert status == 0
    assert len(printed) == 1 + 3 + 1


def test_python_standard_library_is_the_default(tmp_path, capsys, monkeypatch):
    from ds_zoo.minigpt import corpus

    short = corpus.standard_library_text
    monkeypatch.setattr(corpus, "standard_library_text", lambda: short(100_000))
    assert main(["train", "minigpt", "--out", str(tmp_path / "out"), *words(TINY)]) == 0
    assert "learns the Python standard library" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights(run, tmp_path):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        assert run(out=tmp_path / name, seed=seed)[0] == 0
    assert equal(trained_weights(tmp_path / "a"), trained_weights(tmp_path / "b"))
    assert not equal(trained_weights(tmp_path / "a"), trained_weights(tmp_path / "c"))


def test_weight_decay_is_for_matrices_only():
    model = MiniGPT(MiniGPTConfig(5, 4, 1, 1, 4))
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    decayed, others = parameter_groups(model, 0.3)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all("norm" in names[id(tensor)] or "bias" in names[id(tensor)] for tensor in others["params"])
    assert {names[id(tensor)].split(".")[-1] for tensor in decayed["params"]} == {"weight", "in_proj_weight"}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_the_best_weights_are_kept_not_the_last(run, text, tmp_path):
    status, printed, _ = run(lr=0.3, min_lr=0.3, warmup_steps=0, evaluate_every=1, steps=12)  # far too fast
    assert status == 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    evaluations = {line["step"]: line["loss"] for line in log if line["kind"] == "evaluation"}
    best = min(evaluations, key=evaluations.get)
    assert best != 12
    assert f"with the weights of step {best};" in printed
    kept = MiniGPT.from_pretrained(tmp_path / "out").state_dict()
    last = {f"model.{name}": tensor for name, tensor in kept.items()}
    assert not equal(last, trained_weights(tmp_path / "out"))
    loss = whole_loss(MiniGPT.from_pretrained(tmp_path / "out"), validation_tokens(text, tmp_path / "out"), CPU)
    assert f"{loss:.4f} nats" in printed


def test_nanogpt_preset_is_the_published_recipe():
    expected = {
        "layers": 4,
        "heads": 4,
        "width": 128,
        "block_size": 64,
        "batch_size": 12,
        "steps": 2000,
        "lr": 1e-3,
        "min_lr": 1e-4,
        "warmup_steps": 100,
        "beta1": 0.9,
        "beta2": 0.99,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "bias": False,
        "dropout": 0.0,
        "evaluate_every": 250,
        "evaluate_batches": 20,
    }
    options = TrainOptions(preset="nanogpt-cpu")
    assert {name: getattr(options, name) for name in expected} == expected
    for preset in PRESETS:
        assert PRESETS[preset].keys() == PRESETS["default"].keys()
        TrainOptions(preset=preset)


def test_given_options_go_before_the_preset():
    options = TrainOptions(preset="nanogpt-cpu", lr=5e-4, steps=50, bias=True)
    assert (options.lr, options.steps, options.bias) == (5e-4, 50, True)
    assert options.min_lr == pytest.approx(5e-5)  # in proportion
    assert options.warmup_steps == 5  # no more than a tenth of so short a run


# Runs `ds` and kills it (kill -9, or Ctrl-C) in the middle of the count-th call of a function.
STOPPED = """
import os, signal, sys
import ds_core.adam
from ds_core.cli import main

place, number, count = sys.argv[1], getattr(signal, sys.argv[2]), int(sys.argv[3])
owner, name = {"step": (ds_core.adam.AdamW, "step"), "rename": (os, "replace")}[place]
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


def test_killed_at_any_moment_and_resumed_ends_where_the_unbroken_run_ends(text, tmp_path):
    options = {**TINY, "steps": 20, "evaluate_every": 6, "checkpoint_every": 4, "threads": 1}

    def start(out, script, *more):
        arguments = ["train", "minigpt", "--text", str(text), "--out", str(out), *words(options)]
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


def test_resumed_run_may_be_longer(ds, trained):
    resume = ("train", "minigpt", "--out", trained, "--resume", "--steps")
    assert ds(*resume, 6)[0] == 0
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["kind"] == "train"] == [*range(1, 7)]
    before = (trained / "recipe.json").read_bytes()
    assert "beyond" in complaint(ds(*resume, 2))
    assert (trained / "recipe.json").read_bytes() == before


def test_fewer_steps_than_the_warm_up_are_beyond_the_run_too(run):
    assert run(warmup_steps=3)[0] == 0
    assert "the run is at step 4 already, beyond the 2 steps" in complaint(run("--resume", warmup_steps=3, steps=2))


def test_resumed_run_has_as_many_threads_as_it_began_with(run):
    assert run(threads=1)[0] == 0
    assert run("--resume", threads=1, steps=5)[0] == 0
    assert "--threads: given 2, the run began with 1" in complaint(run("--resume", threads=2, steps=6))


def test_the_text_may_move(run, ds, text, tmp_path):
    assert run()[0] == 0
    moved = text.rename(tmp_path / "moved.txt")
    resume = ("train", "minigpt", "--out", tmp_path / "out", "--resume", "--steps", 5)
    assert "cannot read the text" in complaint(ds(*resume))
    assert ds(*resume, "--text", moved)[0] == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"ab \xff", "is not UTF-8: byte 0xff at offset 3, line 1"),
        (b"to be or not", "is too short: its validation part has 2 tokens, expected at least 9"),
        (b"t", "is too short"),
    ],
)
def test_text_that_cannot_be_learned(data, message, run, text, tmp_path):
    text.write_bytes(data)
    assert message in complaint(run())
    assert not (tmp_path / "out").exists()


def test_text_that_is_not_there(run, text):
    text.unlink()
    assert "cannot read the text" in complaint(run())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--heads", "3"], "--heads 3 does not divide --width 8"),
        (["--vocab-size", "300"], "--vocab-size contradicts --tokenizer characters"),
        (["--tokenizer", "bpe", "--vocab-size", "10"], "--vocab-size"),
        (["--lr", "1e-4", "--min-lr", "1e-3"], "--min-lr 0.001 is above --lr 0.0001"),
        (["--warmup-steps", "5"], "--warmup-steps 5 are more than --steps 4"),
        (["--resume", "--overwrite"], "--resume and --overwrite"),
        (["--dropout", "1"], "--dropout"),
        (["--steps", "0"], "--steps"),
        (["--lr", "nan"], "--lr"),
        (["--preset", "demoo"], "demo"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used here"),
        (["--device", "meta"], "--device meta cannot be used here"),
        (["--seed", str(2**62 + 1)], "--seed"),
        (["--device", "abacus"], "--device abacus cannot be used here"),
        (["--stepz", "3"], "--steps"),
        (["--layers", "two"], "--layers"),
    ],
)
def test_contradictory_and_impossible_options(more, message, run, tmp_path):
    result = run(*more)
    assert result[0] == 2
    assert message in complaint(result)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_left_alone(run, tmp_path):
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


def test_a_model_that_cannot_be_built_deletes_nothing(run, tmp_path, monkeypatch):
    assert run()[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def too_large(options, vocab_size):
        raise UserError("no memory for it")

    monkeypatch.setattr(training, "build_model", too_large)
    assert "no memory for it" in complaint(run("--overwrite"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_the_largest_seed(run, tmp_path, ds):
    assert run(seed=2**62)[0] == 0
    assert ds("generate", tmp_path / "out", "--tokens", 3, "--seed", 2**62)[0] == 0


def test_a_curve_that_cannot_be_drawn_is_said(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, printed, _ = run()
    assert status == 0
    assert "loss curve  not drawn: plotting needs matplotlib" in printed
    assert "try next" in printed


@pytest.mark.parametrize(("active", "command"), [("", "\n  ds generate "), ("default", "\n  hatch run ds generate ")])
def test_what_to_try_next_can_be_typed_as_it_stands(active, command, run, monkeypatch):
    monkeypatch.setenv("HATCH_ENV_ACTIVE", active)
    assert command in run()[1]


def test_before_the_first_evaluation_there_are_only_the_last_weights(ds, trained):
    (trained / "config.json").unlink()
    (trained / "model.safetensors").unlink()
    assert "no evaluation yet" in complaint(ds("generate", trained, "--tokens", 3))
    assert ds("generate", trained, "--tokens", 3, "--weights", "last")[0] == 0


def test_a_folder_that_cannot_be_written(run, text):
    assert "cannot use" in complaint(run(out=text / "below"))  # below a file there is no folder, not even for root


def test_resuming_what_is_not_there_or_another(run, text, tmp_path):
    assert "no run folder" in complaint(run("--resume", out=tmp_path / "nothing"))
    assert run()[0] == 0
    before = trained_weights(tmp_path / "out")
    assert "--width: given 4, the run began with 8" in complaint(run("--resume", width=4))
    text.write_text(text.read_text()[::-1])
    assert "is not as it was when the run began" in complaint(run("--resume", steps=6))
    text.write_text("entirely different, with UNSEEN characters" * 20)
    assert "character the tokenizer never saw" in complaint(run("--resume", steps=6))
    assert equal(trained_weights(tmp_path / "out"), before)


def damaged(whole):
    newer = bytearray(whole)
    header = newer.index(b'"version":"1"')
    newer[header : header + 13] = b'"version":"7"'
    data = 8 + int.from_bytes(whole[:8], "little")
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "corrupt": whole[:data] + bytes(byte ^ 255 for byte in whole[data:]),
        "noise": b"\x17" * 1000,
        "newer": bytes(newer),
        "foreign": safetensors.torch.save({"weight": torch.zeros(3)}),
    }


@pytest.mark.parametrize("kind", ["truncated", "empty", "corrupt", "noise", "newer", "foreign"])
def test_damaged_checkpoints(kind, ds, trained):
    path = trained / CHECKPOINT_FILE
    content = damaged(path.read_bytes())[kind]
    path.write_bytes(content)
    assert CHECKPOINT_FILE in complaint(ds("train", "minigpt", "--out", trained, "--resume", "--steps", 6))
    assert CHECKPOINT_FILE in complaint(ds("generate", trained, "--weights", "last"))
    assert path.read_bytes() == content
    assert ds("generate", trained, "--tokens", 3)[0] == 0  # the best weights are another file


def test_a_checkpoint_of_another_model(run, ds, trained, tmp_path):
    assert run(width=4)[0] == 0
    (trained / CHECKPOINT_FILE).write_bytes((tmp_path / "out" / CHECKPOINT_FILE).read_bytes())
    assert "another model" in complaint(ds("train", "minigpt", "--out", trained, "--resume", "--steps", 6))


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        (["--prompt", "to bé"], 2, "--prompt has a character the tokenizer never saw: 'é' (U+00E9) at position 4"),
        (["--prompt", ""], 2, "--prompt is empty"),
        (["--block-size", "9"], 2, "--block-size 9 is beyond the 8 tokens"),
        (["--temperature", "-1"], 2, "--temperature"),
        (["--top-k", "0"], 2, "--top-k"),
        (["--top-p", "0"], 2, "--top-p"),
        (["--top-p", "1.1"], 2, "--top-p"),
        (["--tokens", "-1"], 2, "--tokens"),
    ],
)
def test_generating_what_cannot_be(more, status, message, ds, trained):
    result = ds("generate", trained, *more)
    assert message in complaint(result)
    assert result[0] == status
    assert result[1] == ""


def test_generating_from_damaged_folders(ds, trained):
    for name in ("model.safetensors", "tokenizer.json"):
        whole = (trained / name).read_bytes()
        for content in (whole[:-9], whole[:-200] + bytes(byte ^ 255 for byte in whole[-200:])):
            (trained / name).write_bytes(content)
            assert name in complaint(ds("generate", trained))
        (trained / name).unlink()
        assert name in complaint(ds("generate", trained))
        (trained / name).write_bytes(whole)
    (trained / "tokenizer.json").write_text(json.dumps({"type": "characters", "characters": "ab\n"}))
    assert "tokenizer.json" in complaint(ds("generate", trained))


def test_a_loss_that_turns_nan_names_the_layer_and_keeps_the_checkpoint(run, tmp_path):
    result = run(lr=1e9, warmup_steps=0, steps=50, checkpoint_every=1)
    assert result[0] == 1
    line = complaint(result)
    assert "the loss is nan" in line
    assert "the first layer whose output is not finite is blocks.0." in line
    assert all(torch.isfinite(tensor).all() for tensor in trained_weights(tmp_path / "out").values())


def test_a_full_disk_keeps_the_last_checkpoint(ds, trained):
    before = trained_weights(trained)
    resume = ("train", "minigpt", "--out", trained, "--resume", "--steps", 6)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))  # no file may grow beyond this
    try:
        result = ds(*resume)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result[0] == 1
    assert "cannot write" in complaint(result)
    assert equal(trained_weights(trained), before)
    assert ds(*resume)[0] == 0


def test_check_and_list(ds):
    status, printed, _ = ds("check", "minigpt")
    assert status == 0
    assert "ok: all gradients agree" in printed
    status, printed, _ = ds("list")
    assert status == 0
    assert "minigpt" in printed
