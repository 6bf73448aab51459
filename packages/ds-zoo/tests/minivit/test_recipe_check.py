"""The recipe `minivit` through everything that a recipe must survive."""

import pytest
import torch
from ds_core.testing import RECIPE_PARTS, check_recipe
from tiny_minivit import fine_tuning_words, words


def without_key_bias(name, tensor):
    """A parameter without the bias of keys, whose gradient is rounding alone: Adam would make a step of it."""
    if not name.endswith("in_proj_bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_what_every_recipe_must_survive(part, images):
    check_recipe(
        "minivit",
        ["--images", f"{images}/images", *words(epochs=3, dropout=0.1, checkpoint_every=2)],
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={
            "--embed-dim 4": "--embed-dim: given 4, the run began with 8",
            "--pooling mean": "--pooling: given mean, the run began with nothing",
        },
        other_data=f"--images {images}/other",
        mistakes={
            "--num-heads 3": "--num-heads 3 does not divide --embed-dim 8",
            "--patch-size 9": "--patch-size 9 is larger than the images of 8 x 8 pixels",
            "--patch-size 0": "--patch-size: given 0, expected at least 1",
            "--shift 8": "expected at most 7",
            "--pooling max": "--pooling: given 'max', expected one of token, mean",
            "--lr 1e-4 --min-lr 1e-3": "--min-lr 0.001 is above --lr 0.0001",
            "--dropout 1": "--dropout: given 1.0, expected at most 0.99",
            "--epochs 0": "--epochs: given 0, expected at least 1",
            "--freeze nothing": "--freeze: 'nothing' fits no parameter",
            "--lora-rank 2": "--lora-rank needs --from-pretrained",
            "--images nowhere": "cannot read the folder nowhere",
            "--epoch 3": "did you mean --epochs?",
        },
        together="--dropout 0 --dtype float64",
        comparable=without_key_bias,
        parts=[part],
    )


@pytest.mark.parametrize("part", ["refused", "killed", "together"])
def test_a_fine_tuning_run_survives_too(part, images, finished):
    """LoRA's updates and the new head are in its checkpoints, and averaged over processes."""
    check_recipe(
        "minivit",
        [
            "--images",
            f"{images}/images",
            "--from-pretrained",
            f"{finished}",
            "--lora-rank",
            "2",
            *fine_tuning_words(epochs=3),
        ],
        longer="--epochs 4",
        shorter="--epochs 1",
        changed={"--lora-rank 3": "--lora-rank: given 3, the run began with 2"},
        together="--dtype float64",
        comparable=without_key_bias,
        parts=[part],
    )
