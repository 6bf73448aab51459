"""The recipe `minigpt`: what a run learns, prints and leaves behind, and its options."""

import dataclasses
import json
import math
import os
import shlex
import subprocess
import sys

import pytest
import torch
import transformers
from ds_core.cli.main import main
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import MiniGPT, MiniGPTConfig
from ds_zoo.minigpt.options import PRESETS, MiniGPTOptions
from ds_zoo.minigpt.run import whole_loss

CPU = torch.device("cpu")


def test_a_run_from_text_to_text(run, text, tmp_path, capsys, validation_tokens):
    status, printed, _ = run()
    out = tmp_path / "out"
    assert status == 0
    assert {path.name for path in out.iterdir()} == {
        *("checkpoint.safetensors", "best.safetensors", "config.json", "model.safetensors", "tokenizer.json"),
        *("recipe.json", "results.json", "log.jsonl", "loss.png"),
    }
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
    results = json.loads((out / "results.json").read_text())
    loss = pytest.approx(total / (len(tokens) - 1))
    perplexity = pytest.approx(math.exp(total / (len(tokens) - 1)))
    assert results["validation"] == {"loss": loss, "tokens": len(tokens) - 1, "perplexity": perplexity}
    assert f"perplexity: {results['validation']['perplexity']:.2f}" in printed

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


def test_python_standard_library_is_the_default(tmp_path, capsys, monkeypatch, tiny):
    from ds_core.recipes import text_corpus

    short = text_corpus.standard_library_text
    monkeypatch.setattr(text_corpus, "standard_library_text", lambda: short(100_000))
    assert main(["train", "minigpt", "--out", str(tmp_path / "out"), *tiny()]) == 0
    assert "learns the Python standard library" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights(run, tmp_path, trained_weights, equal):
    for name, seed in [("a", 0), ("b", 0), ("c", 1)]:
        assert run(out=tmp_path / name, seed=seed)[0] == 0
    assert equal(trained_weights(tmp_path / "a"), trained_weights(tmp_path / "b"))
    assert not equal(trained_weights(tmp_path / "a"), trained_weights(tmp_path / "c"))


def test_weight_decay_is_for_matrices_only():
    model = MiniGPT(MiniGPTConfig(5, 4, 1, 1, 4))
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    decayed, others = decay_groups(model, 0.3)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert all("norm" in names[id(tensor)] or "bias" in names[id(tensor)] for tensor in others["params"])
    assert {names[id(tensor)].split(".")[-1] for tensor in decayed["params"]} == {"weight", "in_proj_weight"}
    assert len(decayed["params"]) + len(others["params"]) == len(names)


def test_the_best_weights_are_kept_not_the_last(run, text, tmp_path, trained_weights, equal, validation_tokens):
    status, printed, _ = run(lr=0.3, min_lr=0.3, warmup_steps=0, evaluate_every=1, steps=12)  # far too fast
    assert status == 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    evaluations = {line["step"]: line["loss"] for line in log if line["kind"] == "evaluation"}
    best = min(evaluations, key=evaluations.get)
    assert best != 12
    assert f"weights of step {best};" in printed
    assert json.loads((tmp_path / "out" / "results.json").read_text())["weights"] == f"step {best}"
    kept = MiniGPT.from_pretrained(tmp_path / "out").state_dict()
    last = {f"model.{name}": tensor for name, tensor in kept.items()}
    assert not equal(last, trained_weights(tmp_path / "out"))
    loss = whole_loss(MiniGPT.from_pretrained(tmp_path / "out"), validation_tokens(text, tmp_path / "out"), CPU)
    assert f"{loss:.4f} nats" in printed


def test_nanogpt_preset_is_the_published_recipe():
    expected = {
        "num_layers": 4,
        "num_heads": 4,
        "embed_dim": 128,
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
    options = MiniGPTOptions(preset="nanogpt-cpu")
    assert {name: getattr(options, name) for name in expected} == expected
    default = MiniGPTOptions()
    assert (default.steps, default.lr, default.min_lr, default.sample_every) == (2300, 4e-3, 1e-4, 0)
    for preset, values in PRESETS.items():
        assert dataclasses.replace(default, preset=preset, **values) == MiniGPTOptions(preset=preset)


def test_given_options_go_before_the_preset():
    options = MiniGPTOptions(preset="nanogpt-cpu", lr=5e-4, steps=50, bias=True)
    assert (options.lr, options.steps, options.bias) == (5e-4, 50, True)
    assert options.min_lr == pytest.approx(5e-5)  # in proportion
    assert options.warmup_steps == 5  # no more than a tenth of so short a run


def test_the_largest_seed(run, tmp_path, ds):
    assert run(seed=2**62)[0] == 0
    assert ds("generate", tmp_path / "out", "--tokens", 3, "--seed", 2**62)[0] == 0


def test_a_curve_that_cannot_be_drawn_is_said(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, printed, _ = run()
    assert status == 0
    assert "no plots: plotting needs matplotlib" in printed
    assert "try next" in printed


@pytest.mark.parametrize(("active", "command"), [("", "\n  ds generate "), ("default", "\n  hatch run ds generate ")])
def test_what_to_try_next_can_be_typed_as_it_stands(active, command, run, monkeypatch, tmp_path):
    monkeypatch.setenv("HATCH_ENV_ACTIVE", active)
    printed = run(out=tmp_path / "a b's")[1]
    assert command in printed
    lines = [shlex.split(line) for line in printed[printed.index("try next:") :].splitlines()[1:3]]
    assert [line[line.index("ds") :] for line in lines] == [
        ["ds", "generate", f"{tmp_path}/a b's"],
        ["ds", "train", "minigpt", "--out", f"{tmp_path}/a b's", "--resume", "--steps", "8"],
    ]


def test_output_that_cannot_hold_the_text(text, tmp_path, tiny):
    text.write_text("日本語の本\n" * 100, "utf-8")
    command = ["train", "minigpt", "--text", str(text), "--out", str(tmp_path / "out"), *tiny()]
    run = subprocess.run(
        [sys.executable, "-m", "ds_core.cli", *command],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "???" in run.stdout
    assert "try next" in run.stdout


def test_check_and_list(ds):
    status, printed, _ = ds("check", "minigpt")
    assert status == 0
    assert "ok: all gradients agree" in printed
    status, printed, _ = ds("list")
    assert status == 0
    assert "minigpt" in printed
