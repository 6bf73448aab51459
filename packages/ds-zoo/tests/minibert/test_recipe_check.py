"""The recipe `minibert` through everything that a recipe must survive."""

import pytest
import torch
from ds_core.testing import RECIPE_PARTS, check_recipe
from tiny_minibert import words, write_labelled, write_text


def without_key_bias(name, tensor):
    """A parameter without the bias of keys, whose gradient is rounding alone: Adam would make a step of it."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """A folder with a text, another, and classified ones."""
    folder = tmp_path_factory.mktemp("texts")
    write_text(folder / "text.txt")
    write_text(folder / "other.txt", seed=1)
    write_labelled(folder / "labelled.csv")
    return folder


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, texts):
    check_recipe(
        "minibert",
        ["--text", f"{texts}/text.txt", "--next-sentence", *words(steps=8, evaluate_every=3, checkpoint_every=2)],
        longer="--steps 10",
        shorter="--steps 2",
        changed={
            "--embed-dim 4": "--embed-dim: given 4, the run began with 8",
            "--no-next-sentence": "--next-sentence",
            "--threads 2": "--threads: given 2, the run began with 1",
        },
        other_data=f"--text {texts}/other.txt",
        mistakes={
            "--num-heads 3": "--num-heads 3 does not divide --embed-dim 8",
            "--vocab-size 12": "--vocab-size: given vocab_size=12, but the characters",
            "--lr 1e-4 --min-lr 1e-3": "--min-lr 0.001 is above --lr 0.0001",
            "--dropout 1": "--dropout: given 1.0, expected at most 0.99",
            "--max-length 6": "--max-length: given 6, expected at least 7",
            "--max-length 900": "is too short: its training part has 756 tokens, expected at least 898",
            "--steps 0": "--steps: given 0, expected at least 1",
            "--device cuda:99": "--device cuda:99 cannot be used here",
            "--from-pretrained nowhere": "contradicts --from-pretrained: the model in nowhere has its own",
            f"--labelled {texts}/labelled.csv": "--labelled contradicts --text",
            "--freeze heart": "--freeze: 'heart' fits no parameter: there are bias, bert.embeddings.tokens",
            "--stepz 3": "did you mean --steps?",
        },
        together="--dropout 0 --dtype float64",
        comparable=without_key_bias,
        parts=[part],
    )


def test_masked_language_modelling_alone_survives_being_killed(texts):
    """Blocks instead of pairs: other inputs, some of them None."""
    check_recipe(
        "minibert",
        ["--text", f"{texts}/text.txt", *words(steps=8, evaluate_every=3, checkpoint_every=2)],
        longer="--steps 10",
        shorter="--steps 2",
        changed={},
        together="--dropout 0 --dtype float64",
        comparable=without_key_bias,
        parts=["killed", "together"],
    )


def test_classification_survives_being_killed(texts):
    check_recipe(
        "minibert",
        ["--labelled", f"{texts}/labelled.csv", *words(steps=8, evaluate_every=3, checkpoint_every=2)],
        longer="--steps 10",
        shorter="--steps 2",
        changed={},
        together="--dropout 0 --dtype float64",
        comparable=without_key_bias,
        parts=["folder", "killed", "together"],
    )
