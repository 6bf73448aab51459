"""The recipe `translate`: what a run learns, prints and leaves behind, and its options."""

import dataclasses
import json
import math
import os
import shlex
import subprocess
import sys

import pytest
import torch
from ds_core import NoamLR, WarmupCosineLR, no_record
from ds_core.recipes.translation import corpus as corpus_module
from ds_core.recipes.translation import run as translation_run
from ds_core.recipes.translation.corpus import read_corpus
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.pairs import Pairs
from ds_core.text.token_batches import TokenBatches
from ds_core.training.checkpoint import describe_checkpoint, read_weights
from ds_transformers.translation.options import PRESETS, TranslateOptions
from ds_transformers.translation.recipe import TranslateRun


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def log_of(folder, kind):
    return [line for line in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if line["kind"] == kind]


def test_a_run_from_sentences_to_translations(run, tmp_path, sentences):
    status, printed, complaints = run(plots=True)
    out = tmp_path / "out"
    assert status == 0, complaints
    assert {path.name for path in out.iterdir()} == {
        *("checkpoint.safetensors", "best.safetensors", "final.safetensors", "recipe.json", "results.json"),
        *("tokenizer.source.json", "tokenizer.target.json", "log.jsonl", "loss.png", "attention.png"),
    }
    for plot in ("loss.png", "attention.png"):
        assert (out / plot).read_bytes().startswith(b"\x89PNG")
    corpus = read_corpus(TranslateOptions(pairs=sentences, vocab_size=280, validation=0.15, test=0.1))
    parts = [len(part) for part in (corpus.parts.train, corpus.parts.validation, corpus.parts.test)]
    assert sum(parts) == 75
    said = "{} pairs to train on, {} to validate on, {} to test on; one vocabulary of 280 tokens; ".format(*parts)
    for each in (said, "source", "reference", f"{parts[2]} test sentences", "try next", "attention.png"):
        assert each in printed
    steps = log_of(out, "train")[-1]["step"]
    assert f"{steps // 2} batches an epoch" in printed
    assert [line["step"] for line in log_of(out, "evaluation")] == [steps // 2, steps]
    results = results_of(out)
    assert set(results) == {"steps", "weights", "seconds", "validation", "test"}
    assert results["steps"] == steps
    assert results["weights"] == f"step {steps}"
    assert set(results["test"]) == {"exact", "BLEU", "chrF"}
    # perplexity of the validation pairs, one by one, by PyTorch
    translator, total, count = TranslateRun.load(out), 0.0, 0
    for source, target in corpus.parts.validation:
        (first,), second = (
            corpus.source_tokenizer.encode_batch([source]),
            corpus.target_tokenizer.encode(target).tolist(),
        )
        with no_record():
            logits = translator.model.eval()(torch.tensor([[*first, 2]]), torch.tensor([[1, *second]]))
        total += float(torch.nn.functional.cross_entropy(logits[0], torch.tensor([*second, 2]), reduction="sum"))
        count += len(second) + 1
    assert results["validation"]["loss"] == pytest.approx(total / count, rel=1e-5)
    assert results["validation"]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    exact = [translator.translate([source], beam_size=1)[0] == target for source, target in corpus.parts.test]
    assert results["test"]["exact"] == sum(exact) / len(exact)


def test_it_learns(model_run):
    found = results_of(model_run / "out")
    assert found["test"]["exact"] > 0.8
    assert found["test"]["BLEU"] > 80
    assert found["validation"]["perplexity"] < 1.3


def test_the_shipped_sentences_are_the_default(run, tmp_path, monkeypatch):
    def few(*languages):
        pairs = shipped_pairs(*languages)
        return Pairs(pairs.source[:300], pairs.target[:300])

    monkeypatch.setattr(corpus_module, "shipped_pairs", few)
    status, printed, _ = run(pairs=None, source_language="es", target_language="fr", max_tokens=1500, epochs=1)
    assert status == 0
    assert "learns the shipped sentences, es to fr" in printed


@pytest.mark.parametrize("packed", [False, True])
def test_multi30k_files_as_documented(ds, tiny, tmp_path, packed):
    import gzip

    folder = tmp_path / "multi30k"
    folder.mkdir()
    for part, count in (("train", 30), ("val", 5), ("test_2016_flickr", 4)):
        for language, word in (("de", "ein Hund läuft"), ("en", "a dog runs")):
            text = "".join(f"{word} {part} {number}\n" for number in range(count)).encode()
            name = folder / f"{part}.{language}"
            name.with_name(name.name + ".gz").write_bytes(gzip.compress(text)) if packed else name.write_bytes(text)
    languages = ["--source-language", "de", "--target-language", "en"]
    command = ["train", "translate", "--preset", "multi30k", "--multi30k", folder, *languages]
    options = tiny(validation=None, test=None, plots=False)
    status, printed, complaints = ds(*command, "--out", tmp_path / "out", *options)
    assert status == 0, complaints
    assert "30 pairs to train on, 5 to validate on, 4 to test on" in printed
    assert results_of(tmp_path / "out")["weights"].startswith("the mean of steps ")


@pytest.mark.parametrize(
    "options",
    [
        {"share_vocabulary": False},
        {"share_vocabulary": False, "tied": False},
        {"tied": False, "activation": "gelu"},
        {"share_weights": True, "num_encoder_layers": 2, "num_decoder_layers": 2},
        {"norm_first": False, "schedule": "noam", "lr": 1, "warmup_steps": 4},
        {"schedule": "constant", "accumulate": 3, "clip_norm": 0},
        {"dtype": "bfloat16", "evaluate_every": 2},
        {"dtype": "float64", "beam_size": 4, "label_smoothing": 0, "weight_decay": 0},
        {"accumulate": 7, "checkpoint_every": 1},
    ],
)
def test_other_options(options, run, ds, tmp_path):
    status, printed, complaints = run(**options)
    assert status == 0, complaints
    assert ("vocabularies of 280 and 280 tokens" in printed) == ("share_vocabulary" in options)
    status, printed, complaints = ds(
        "translate", tmp_path / "out", "--text", "the cat sees the dog.", "--max-length", 5
    )
    assert status == 0, complaints
    assert printed.count("\n") == 1
    model = TranslateRun.load(tmp_path / "out").model
    assert model.transformer.encoder.layers[0].norm_first == options.get("norm_first", True)
    assert (model.source_tokens is model.target_tokens) == options.get("share_vocabulary", True)
    assert (model.projection is None) == options.get("tied", True)
    assert len(model.transformer.decoder.layers) == 1


def test_recompute_changes_nothing_but_time(run, tmp_path, trained_weights, equal):
    assert run(plots=True)[0] == 0
    assert run("--recompute", out=tmp_path / "again", plots=True)[0] == 0
    assert equal(trained_weights(tmp_path / "out"), trained_weights(tmp_path / "again"))
    plots = [(tmp_path / name / "attention.png").read_bytes() for name in ("out", "again")]
    assert plots[0] == plots[1]


def test_the_same_seed_gives_the_same_weights(run, tmp_path, trained_weights, equal):
    for name, seed in [("a", 0), ("b", 0), ("c", 2**62)]:
        assert run(out=tmp_path / name, seed=seed)[0] == 0
    assert equal(trained_weights(tmp_path / "a"), trained_weights(tmp_path / "b"))
    assert not equal(trained_weights(tmp_path / "a"), trained_weights(tmp_path / "c"))


def test_the_best_weights_are_the_final_ones(run, tmp_path, trained_weights, equal, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 1.0])  # the last of the final weights
    monkeypatch.setattr(translation_run, "token_loss", lambda *_: {"loss": next(losses), "perplexity": 1.0})
    status, printed, _ = run(epochs=3, average=1)
    assert status == 0
    out = tmp_path / "out"
    assert f"weights of step {log_of(out, 'evaluation')[1]['step']};" in printed
    assert equal(trained_weights(out, "final.safetensors"), trained_weights(out, "best.safetensors"))
    assert not equal(trained_weights(out, "final.safetensors"), trained_weights(out))


def test_the_final_weights_are_the_mean_of_the_last_evaluations(run, tmp_path, monkeypatch):
    seen, token_loss = [], translation_run.token_loss

    def watched(model, batches):
        seen.append({name: tensor.double() for name, tensor in model.state_dict().items()})
        return token_loss(model, batches)

    monkeypatch.setattr(translation_run, "token_loss", watched)
    status, printed, _ = run(epochs=5, average=3, lr=1e-2)
    assert status == 0
    steps = [line["step"] for line in log_of(tmp_path / "out", "evaluation")]
    assert len(steps) == 5
    assert f"weights of the mean of steps {steps[2]}, {steps[3]}, {steps[4]};" in printed
    final = read_weights(tmp_path / "out" / "final.safetensors")
    assert final.keys() == seen[0].keys()
    for name, tensor in final.items():
        expected = (seen[2][name] + seen[3][name] + seen[4][name]) / 3
        torch.testing.assert_close(tensor, expected.float(), rtol=0, atol=0)


def test_presets():
    default = TranslateOptions()
    for preset, values in PRESETS.items():
        options = TranslateOptions(preset=preset)
        assert {name: getattr(options, name) for name in values} == values
        # and what a preset does not list is as in the default
        assert dataclasses.replace(default, preset=preset, **values) == options
    sizes = {"embed_dim": 128, "num_heads": 4, "dim_feedforward": 512, "num_encoder_layers": 2, "num_decoder_layers": 2}
    assert {name: getattr(default, name) for name in sizes} == sizes
    paper = {"embed_dim": 512, "num_heads": 8, "dim_feedforward": 2048, "dropout": 0.1}
    paper |= {"num_encoder_layers": 6, "num_decoder_layers": 6}
    paper |= {"norm_first": False, "warmup_steps": 4000, "schedule": "noam", "lr": 1.0}
    assert {name: getattr(TranslateOptions(preset="paper"), name) for name in paper} == paper
    assert TranslateOptions(preset="paper").beta2 == 0.98
    given = TranslateOptions(preset="multi30k", embed_dim=64, dropout=0.0)
    assert (given.embed_dim, given.dropout, given.num_heads) == (64, 0.0, PRESETS["multi30k"]["num_heads"])


def test_schedules(sentences, monkeypatch):
    made, make = [], translation_run.make_schedule
    monkeypatch.setattr(translation_run, "make_schedule", lambda *a, **o: made.append(make(*a, **o)) or made[-1])

    def schedule(**options):
        run = TranslateRun(TranslateOptions(pairs=sentences, vocab_size=280, epochs=100, **options))
        run.prepare()
        return made[-1], run.steps

    noam, _ = schedule(preset="paper", lr=2.0, embed_dim=16, num_encoder_layers=1, num_decoder_layers=1)
    assert isinstance(noam, NoamLR)
    assert max(noam.values(9000)) == pytest.approx(2 * (16 * 4000) ** -0.5)
    cosine, steps = schedule(warmup_steps=100)
    assert isinstance(cosine, WarmupCosineLR)
    assert steps < 500
    assert (cosine.warmup_steps, cosine.total_steps) == (steps // 5, steps)  # never more than a fifth of the run
    assert schedule(schedule="constant")[0] is None


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 15), (2, 7), (4, 3), (100, 1)])
def test_the_schedule_ends_with_the_run(accumulate, steps, run, tmp_path, monkeypatch):
    totals = []
    monkeypatch.setattr(translation_run, "make_schedule", lambda name, optimizer, total, **_: totals.append(total))
    monkeypatch.setattr(TranslateRun, "report", lambda self: {})
    asked, batch = set(), TokenBatches.batch
    monkeypatch.setattr(
        TokenBatches, "batch", lambda self, index: (asked.add(index) if self.shuffle else None, batch(self, index))[1]
    )
    status, printed, _ = run(accumulate=accumulate, epochs=5)
    assert status == 0
    assert "; 3 batches an epoch" in printed
    assert asked >= {*range(steps * accumulate)}
    assert totals == [steps] == [log_of(tmp_path / "out", "train")[-1]["step"]]


def test_accumulated_batches_are_one_large_batch(run, tmp_path, monkeypatch):
    """A step with three batches of unequal widths and numbers of tokens, and one with all their sentences at once."""
    monkeypatch.setattr(TranslateRun, "report", lambda self: {})
    common = {"epochs": 1, "dropout": 0.0, "dtype": "float64", "label_smoothing": 0.1, "clip_norm": 0.5}
    steps = []
    for name, options in (("three", {"accumulate": 3}), ("one", {"max_tokens": 100_000})):
        status, printed, complaints = run(out=tmp_path / name, **common, **options)
        assert status == 0, complaints
        assert f"; {3 if name == 'three' else 1} batches an epoch" in printed
        steps.append([(line["loss"], line["gradient_norm"]) for line in log_of(tmp_path / name, "train")])
    assert len(steps[0]) == len(steps[1]) == 1
    assert steps[0][0] == pytest.approx(steps[1][0], rel=1e-12)


def test_plots_that_cannot_be_drawn_are_said(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, printed, _ = run(plots=True)
    assert status == 0
    assert "no plots: plotting needs matplotlib" in printed
    assert "try next" in printed


def test_pairs_left_out_are_said(run, sentences):
    lines = sentences.read_text("utf-8").splitlines()
    sentences.write_text("\n".join([*lines, *("a " + line.removeprefix("the ") for line in lines)]), "utf-8")
    printed = run()[1]
    assert " more left out, because their translation is held out), " in printed


@pytest.mark.parametrize(("active", "command"), [("", "\n  ds translate "), ("default", "\n  hatch run ds translate ")])
def test_what_to_try_next_can_be_typed_as_it_stands(active, command, run, monkeypatch, tmp_path, ds):
    monkeypatch.setenv("HATCH_ENV_ACTIVE", active)
    out = tmp_path / "a b's"
    printed = run(out=out)[1]
    assert command in printed
    step = describe_checkpoint(out / "checkpoint.safetensors").step
    lines = [shlex.split(line) for line in printed[printed.index("try next:") :].splitlines()[1:]]
    for line in lines:
        assert ds(*line[line.index("ds") + 1 :])[0] == 0
    assert describe_checkpoint(out / "checkpoint.safetensors").step == 2 * step


def test_output_that_cannot_hold_the_text(sentences, tmp_path, tiny):
    sentences.write_text(sentences.read_text("utf-8").replace("Katze", "猫"), "utf-8")
    command = ["train", "translate", "--pairs", str(sentences), "--out", str(tmp_path / "out"), *tiny(epochs=1)]
    found = subprocess.run(
        [sys.executable, "-m", "ds_core.cli", *command, "--no-plots"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "try next" in found.stdout


def test_check_list_and_help(ds):
    status, printed, _ = ds("check", "translate")
    assert status == 0
    assert "ok: all gradients agree" in printed
    assert "translate" in ds("list")[1]
    assert "ds translate FOLDER [options]" in ds("--help")[1]
    assert "with noam, --lr is a factor" in ds("train", "translate", "--help")[1]
