"""The recipe `minigpt` through everything that a recipe must survive, and what of it is its own."""

import json

import pytest
import torch
from ds_core.testing import RECIPE_PARTS, check_recipe
from ds_core.text.tokenizers import load_tokenizer
from ds_core.training.run_folder import CHECKPOINT_FILE, LOG_FILE, RECIPE_FILE
from ds_zoo import MiniGPT
from tiny_minigpt import words, write_text


def without_key_bias(name, tensor):
    """A parameter without the bias of keys, whose gradient is rounding alone: Adam would make a step of it."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with a text, and with the same text backwards."""
    folder = tmp_path_factory.mktemp("texts")
    text = write_text(folder / "text.txt")
    (folder / "other.txt").write_text(text.read_text()[::-1])
    return folder


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, texts):
    check_recipe(
        "minigpt",
        ["--text", f"{texts}/text.txt", *words(steps=8, evaluate_every=3, checkpoint_every=2)],
        longer="--steps 10",
        shorter="--steps 2",
        changed={
            "--embed-dim 4": "--embed-dim: given 4, the run began with 8",
            "--threads 2": "--threads: given 2, the run began with 1",
        },
        other_data=f"--text {texts}/other.txt",
        mistakes={
            "--num-heads 3": "--num-heads 3 does not divide --embed-dim 8",
            "--vocab-size 300": "--vocab-size contradicts --tokenizer characters",
            "--tokenizer bpe --vocab-size 10": "--vocab-size: given 10, expected at least 256",
            "--lr 1e-4 --min-lr 1e-3": "--min-lr 0.001 is above --lr 0.0001",
            "--warmup-steps 9": "--warmup-steps 9 are more than --steps 8",
            "--dropout 1": "--dropout: given 1.0, expected at most 0.99",
            "--steps 0": "--steps: given 0, expected at least 1",
            "--lr nan": "--lr: given nan, expected a finite number",
            "--preset demoo": "did you mean demo?",
            "--device cuda:99": "--device cuda:99 cannot be used here",
            f"--seed {2**62 + 1}": "--seed",
            "--stepz 3": "did you mean --steps?",
            "--num-layers two": "--num-layers",
        },
        together="--dropout 0 --dtype float64",
        comparable=without_key_bias,
        parts=[part],
    )


def test_a_shorter_run_is_refused_as_such_even_if_its_warm_up_is_longer(run, complaint):
    assert run(warmup_steps=3)[0] == 0
    assert "the run is at step 4 already, beyond the 2 steps" in complaint(run("--resume", warmup_steps=3, steps=2))


def test_the_text_may_move(run, ds, text, tmp_path, complaint):
    assert run()[0] == 0
    moved = text.rename(tmp_path / "moved.txt")
    resume = ("train", "minigpt", "--out", tmp_path / "out", "--resume", "--steps", 5)
    assert "cannot read the text" in complaint(ds(*resume))
    assert ds(*resume, "--text", moved)[0] == 0
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["options"]["text"] == str(moved)


def test_resuming_with_characters_that_the_tokenizer_never_saw(run, text, tmp_path, complaint, content):
    assert run()[0] == 0
    before = content(tmp_path / "out")
    text.write_text("entirely different, with UNSEEN characters" * 20)
    assert "character the tokenizer never saw" in complaint(run("--resume", steps=6))
    assert content(tmp_path / "out") == before


def never_saved(out):
    """A run as it is before its first checkpoint."""
    (out / CHECKPOINT_FILE).unlink()
    (out / LOG_FILE).unlink()
    record = json.loads((out / RECIPE_FILE).read_text())
    (out / RECIPE_FILE).write_text(json.dumps({**record, "saved": False}))


def test_without_a_checkpoint_the_tokenizer_is_learned_anew(run, text, tmp_path):
    """As if killed while overwriting another run, whose tokenizer is still there."""
    out = tmp_path / "out"
    assert run()[0] == 0
    never_saved(out)
    text.write_text("a cat sat on the mat\n" * 20)
    assert run("--resume")[0] == 0
    assert load_tokenizer(out / "tokenizer.json").decode(range(4)) == "\n ac"


def test_an_overwritten_run_has_the_new_model(run, tmp_path):
    assert run()[0] == 0
    assert run("--overwrite", embed_dim=4)[0] == 0
    assert MiniGPT.from_pretrained(tmp_path / "out").config.embed_dim == 4
