"""What `ds train minivit` and `ds predict` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_cnn.recipes.image_options import DATA_SETS, DataOptions, with_data_set
from ds_cnn.recipes.messages import check_picture
from ds_cnn.recipes.predict import DRAWN, ClassifyOptions
from ds_core import UserError
from ds_core.options import option, with_presets

from ds_zoo.finetuning.options import LR_HELP, FineTuningOptions, follow_pretrained
from ds_zoo.minivit.heads import POOLINGS

SCENES = "scenes"

# What a data set changes of the defaults, which are for digits
_LARGE = {"patch_size": 4, "embed_dim": 128, "num_layers": 6, "batch_size": 128, "lr": 1e-3, "evaluate_every": 1}
BY_DATA_SET: dict[str, dict[str, Any]] = {
    "mnist": {**_LARGE, "epochs": 15, "shift": 2},
    "fashion_mnist": {**_LARGE, "epochs": 30, "shift": 2, "flip": True},
    "cifar10": {**_LARGE, "epochs": 100, "shift": 4, "flip": True},
    SCENES: {"patch_size": 4, "epochs": 40, "evaluate_every": 2, "shift": 0},
}


def _follow(values: dict[str, Any], given: set[str]) -> None:
    with_data_set(BY_DATA_SET)(values, given)
    follow_pretrained(MiniViTOptions, values, given)


@with_presets(BY_DATA_SET, _follow)
@dataclass
class MiniViTOptions(FineTuningOptions, DataOptions):
    """Options of `ds train minivit`."""

    decided = ("patch_size", "num_layers", "num_heads", "embed_dim", "hidden_dim", "initializer_range")

    out: Path = option(Path("runs/minivit"), "the run folder: checkpoint, model, log and plots", may_change=True)
    dataset: str = option(
        "digits", f"what to learn; {SCENES}: a coloured digit on a textured background", choices=[*DATA_SETS, SCENES]
    )

    patch_size: int = option(
        2, "pixels of a patch's side; sizes are not for --from-pretrained, which has its own", minimum=1
    )
    num_layers: int = option(4, "blocks", minimum=1)
    num_heads: int = option(4, "attention heads in a block", minimum=1)
    embed_dim: int = option(64, "length of a patch's vector", minimum=1)
    hidden_dim: int | None = option(None, "width of the feed-forward layers (not given: 4 --embed-dim)", minimum=1)
    initializer_range: float = option(
        0.1, "standard deviation of the initial weights; ViT-B's 0.02 is for a width of 768", minimum=1e-6
    )
    pooling: str | None = option(
        None,
        "what the head reads: the class token, or the mean over patches (not given: the token, or what the pretrained "
        "model's head reads)",
        choices=POOLINGS,
    )
    dropout: float = option(0.0, "share of activations dropped in training", minimum=0, maximum=0.99)
    attention_dropout: float = option(0.0, "share of attention's probabilities dropped", minimum=0, maximum=0.99)

    epochs: int = option(80, "how often every image is seen", minimum=1, may_change=True)
    accumulate: int = option(1, "batches per step", minimum=1)
    lr: float = option(2e-3, LR_HELP, minimum=0)
    min_lr: float = option(0.0, "learning rate at the end of the cosine", minimum=0)
    warmup: float = option(0.05, "share of the steps in which the learning rate rises", minimum=0, maximum=1)
    beta1: float = option(0.9, "AdamW's average of gradients", minimum=0, maximum=0.999999)
    beta2: float = option(0.99, "AdamW's average of their squares", minimum=0, maximum=0.999999)
    weight_decay: float = option(0.1, "AdamW's, on matrices only", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)
    label_smoothing: float = option(0.1, "share of the uniform distribution in each target", minimum=0, maximum=0.9)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            raise UserError(f"--num-heads {self.num_heads} does not divide --embed-dim {self.embed_dim}")
        if self.min_lr > self.lr:
            raise UserError(f"--min-lr {self.min_lr} is above --lr {self.lr}")


@dataclass
class MiniViTPredictOptions(ClassifyOptions):
    """Options of `ds predict FOLDER` for a run of minivit."""

    rollout: Path | None = option(
        None, f"a PNG file to draw which patches the model looked at (attention rollout), of the first {DRAWN} images"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rollout is not None:
            check_picture("--rollout", self.rollout)
