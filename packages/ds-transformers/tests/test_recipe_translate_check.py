"""The recipe `translate` through everything that a recipe must survive, and what of it is its own."""

import json

import pytest
from attention_twins import without_key_bias
from ds_core.recipes.translation.translator import Translator
from ds_core.testing import RECIPE_PARTS, check_recipe
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, RECIPE_FILE
from ds_transformers.translation.recipe import TranslateRun
from tiny_translate import words, write_sentences


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with 75 pairs, and with others."""
    folder = tmp_path_factory.mktemp("sentences")
    text = write_sentences(folder / "sentences.tsv").read_text("utf-8")
    (folder / "other.tsv").write_text(text.replace("the", "that"), "utf-8")
    return folder


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, files):
    check_recipe(
        "translate",
        ["--pairs", f"{files}/sentences.tsv", *words(epochs=3, average=2, checkpoint_every=2)],
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={
            "--embed-dim 4": "--embed-dim: given 4, the run began with 8",
            "--average 1": "--average: given 1, the run began with 2",
            "--source-language fr": "--source-language: given fr, the run began with en",
        },
        other_data=f"--pairs {files}/other.tsv",
        mistakes={
            "--num-heads 3": "--num-heads 3 does not divide --embed-dim 8",
            "--multi30k somewhere": "--pairs and --multi30k contradict each other",
            "--source-language de": "--source-language and --target-language are both 'de'",
            "--max-tokens 12": "--max-tokens 12: the pairs of ",
            "--max-tokens 7": "--max-tokens: given 7, expected at least 8",
            "--validation 0.5 --test 0.5": "--validation 0.5 and --test 0.5 leave nothing to train on",
            "--schedule noam": "--schedule noam needs --lr: the preset default has one for cosine",
            "--preset paper --schedule cosine": "needs --lr: the preset paper has one for noam",
            "--schedule cosin": "did you mean cosine?",
            "--preset multi30": "did you mean multi30k?",
            "--vocab-size 100": "--vocab-size: given 100, expected at least 260",
            "--dropout 1": "--dropout",
            "--lr nan": "--lr",
            "--epochs 0": "--epochs",
            "--beam-size 0": "--beam-size",
            "--average 0": "--average",
            f"--seed {2**62 + 1}": "--seed",
            "--device cuda:99": "--device cuda:99 cannot be used here",
            "--epoch 3": "did you mean --epochs?",
            "--embed-dim wide": "--embed-dim",
        },
        together="--dtype float64 --dropout 0",
        comparable=without_key_bias,
        parts=[part],
    )


def test_a_longer_run_has_the_steps_of_its_epochs(ds, trained):
    step = describe_checkpoint(trained / CHECKPOINT_FILE).step
    assert ds("train", "translate", "--out", trained, "--resume", "--epochs", 41)[0] == 0
    assert describe_checkpoint(trained / CHECKPOINT_FILE).step == step + step // 40
    assert json.loads((trained / "recipe.json").read_text())["options"]["epochs"] == 41


def test_the_same_pairs_may_lie_elsewhere_and_others_are_refused(run, ds, sentences, tmp_path, complaint, content):
    out = tmp_path / "out"
    assert run()[0] == 0
    before = content(out)
    other = tmp_path / "other.tsv"
    resume = ("train", "translate", "--out", out, "--resume", "--epochs", 3, "--pairs", other)
    lines = sentences.read_text("utf-8").splitlines()
    for changed in (lines[1:], [lines[0] + "!", *lines[1:]], ["a" + line for line in lines]):
        other.write_text("\n".join(changed), "utf-8")
        assert f"cannot resume with the pairs of {other}: the run began with other data" in complaint(ds(*resume))
    assert content(out) == before
    other.write_text("\n".join(lines), "utf-8")
    assert ds(*resume)[0] == 0
    assert json.loads((out / "recipe.json").read_text())["options"]["pairs"] == str(other)


def test_a_tokenizer_that_is_another_is_refused(run, ds, tmp_path, complaint, content):
    """One with as many tokens, which nothing else would notice."""
    assert run()[0] == 0
    out = tmp_path / "out"
    path = out / "tokenizer.source.json"
    stored = json.loads(path.read_text())
    numbers = stored["tokenizer"]["model"]["vocab"]
    numbers["."], numbers["?"] = numbers["?"], numbers["."]
    path.write_text(json.dumps(stored))
    before = content(out)
    assert "the run began with other data" in complaint(ds("train", "translate", "--out", out, "--resume"))
    assert content(out) == before


def never_saved(out):
    """A run as it is before its first checkpoint."""
    (out / CHECKPOINT_FILE).unlink()
    (out / LOG_FILE).unlink()
    record = json.loads((out / RECIPE_FILE).read_text())
    (out / RECIPE_FILE).write_text(json.dumps({**record, "saved": False}))


def test_without_a_checkpoint_the_tokenizers_are_learned_anew(run, sentences, tmp_path):
    """As if killed while overwriting another run, whose tokenizers are still there."""
    out = tmp_path / "out"
    assert run()[0] == 0
    old = (out / "tokenizer.source.json").read_text()
    never_saved(out)
    sentences.write_text(sentences.read_text("utf-8").replace("the", "that"), "utf-8")
    assert run("--resume")[0] == 0
    assert (out / "tokenizer.source.json").read_text() != old


def test_an_overwritten_run_has_the_new_model(run, tmp_path):
    assert run()[0] == 0
    assert run("--overwrite", embed_dim=4)[0] == 0
    assert TranslateRun.load(tmp_path / "out").model.config.embed_dim == 4


def test_stopped_while_the_test_sentences_are_translated(run, ds, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Translator, "translate", stop)
        status, _, complaints = run()
    go_on = f"ds: to continue: ds train translate --out {tmp_path}/out --resume"
    assert (status, complaints.splitlines()[-2:]) == (130, ["ds: stopped", go_on])
    assert "\n2" not in complaints
    status, printed, _ = ds("train", "translate", "--out", tmp_path / "out", "--resume")
    assert status == 0
    assert "test sentences" in printed
    assert (tmp_path / "out" / "results.json").exists()
