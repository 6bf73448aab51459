"""The recipe `miniclip` through everything that a recipe must survive; two processes included."""

import pytest
import torch
from ds_core.testing import RECIPE_PARTS, check_recipe
from tiny_miniclip import words, write_images


def without_key_bias(name, tensor):
    """A parameter without the bias of keys, whose gradient is rounding alone: Adam would make a step of it."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder with two folders of captioned images."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "mine")
    write_images(folder / "others", shift=1)
    return folder


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, images):
    check_recipe(
        "miniclip",
        ["--images-captions", f"{images}/mine", *words(steps=6, evaluate_every=3, checkpoint_every=2)],
        longer="--steps 8",
        shorter="--steps 2",
        changed={
            "--vision-dim 4": "--vision-dim: given 4, the run began with 8",
            "--threads 2": "--threads: given 2, the run began with 1",
        },
        other_data=f"--images-captions {images}/others",
        mistakes={
            "--vision-heads 3": "--vision-heads 3 does not divide --vision-dim 8",
            "--text-heads 3": "--text-heads 3 does not divide --text-dim 8",
            "--patch-size 17": "--patch-size 17 is larger than --image-size 16",
            "--vocab-size 3": "--vocab-size: given 3, expected at least 4",
            "--vocabulary bpe --vocab-size 100": "--vocab-size: given 100, expected at least 258 with --vocabulary bpe",
            "--lr 1e-4 --min-lr 1e-3": "--min-lr 0.001 is above --lr 0.0001",
            "--warmup-steps 9": "--warmup-steps 9 are more than --steps 6",
            "--max-length 5": "has 7 tokens, begin and end included, but the model reads at most 5",
            f"--images-captions {images}/nowhere": "no such file or folder",
            "--validation 0.02": "leave fewer than two",
            "--freeze nothing": "'nothing' fits no parameter",
            "--lora-rank 2 --freeze text": "--freeze and --lora-rank exclude each other",
            "--vocabulary word": "did you mean words?",
            "--preset demoo": "did you mean demo?",
            "--stepz 3": "did you mean --steps?",
        },
        together="--dtype float64",
        comparable=without_key_bias,
        parts=[part],
    )
