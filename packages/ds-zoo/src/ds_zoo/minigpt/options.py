"""What `ds train minigpt` and `ds generate` can be told, and the presets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.options import option, preset_option, with_presets
from ds_core.recipes.text_corpus import TextOptions
from ds_core.recipes.text_run import TextGenerateOptions
from ds_core.training.run_options import PrecisionOptions

from ds_zoo.finetuning.options import LR_HELP, FineTuningOptions, follow_pretrained

# What each preset changes. The defaults learn as much as they can in the time that "nanogpt-cpu" takes. That one is the
# recipe that nanoGPT publishes for a laptop (https://github.com/karpathy/nanoGPT, "I only have a macbook"), except that
# the 20 evaluation batches are the same each time.
PRESETS: dict[str, dict[str, Any]] = {
    "nanogpt-cpu": {"steps": 2000, "lr": 1e-3},
    "demo": {"steps": 1000, "sample_every": 250},
}


def _follow(values: dict[str, Any], given: set[str]) -> None:
    """A given `lr` scales `min_lr` by the same factor; a given `steps` limits the warm-up to a tenth of them."""
    preset = {"lr": MiniGPTOptions.lr, **PRESETS.get(values["preset"], {})}
    given = follow_pretrained(MiniGPTOptions, values, given)
    if "lr" in given and "min_lr" not in given:
        values["min_lr"] *= values["lr"] / preset["lr"]
    if "steps" in given and "warmup_steps" not in given:
        values["warmup_steps"] = min(values["warmup_steps"], values["steps"] // 10)


@with_presets(PRESETS, _follow)
@dataclass
class MiniGPTOptions(PrecisionOptions, FineTuningOptions, TextOptions):
    """Options of `ds train minigpt`."""

    decided = ("num_layers", "num_heads", "embed_dim", "bias", "tokenizer", "vocab_size")

    out: Path = option(
        Path("runs/minigpt"), "the run folder: checkpoint, model, tokenizer, log and loss curve", may_change=True
    )
    preset: str = preset_option(PRESETS)

    num_layers: int = option(4, "blocks", minimum=1)
    num_heads: int = option(4, "attention heads in a block", minimum=1)
    embed_dim: int = option(128, "length of a token's vector", minimum=1)
    block_size: int = option(64, "tokens the model looks at together", minimum=1)
    dropout: float = option(0.0, "share of activations dropped in training", minimum=0, maximum=0.99)
    bias: bool = option(False, "give linear layers and normalisations a bias")

    steps: int = option(2300, "optimizer steps", minimum=1, may_change=True)
    batch_size: int = option(12, "blocks in a batch", minimum=1)
    accumulate: int = option(1, "batches per step", minimum=1)
    lr: float = option(4e-3, LR_HELP, minimum=0)
    min_lr: float = option(1e-4, "learning rate at the end of the cosine", minimum=0)
    warmup_steps: int = option(100, "steps of warm-up; if only --steps is given, at most a tenth of them", minimum=0)
    beta1: float = option(0.9, "AdamW's average of gradients", minimum=0, maximum=0.999999)
    beta2: float = option(0.99, "AdamW's average of their squares", minimum=0, maximum=0.999999)
    weight_decay: float = option(0.1, "AdamW's, on matrices only", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)

    evaluate_every: int = option(250, "steps between evaluations", minimum=1)
    evaluate_batches: int = option(20, "batches of an evaluation", minimum=1)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )
    sample_every: int = option(0, "steps between samples; 0: none", minimum=0, may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            raise UserError(f"--num-heads {self.num_heads} does not divide --embed-dim {self.embed_dim}")
        if self.min_lr > self.lr:
            raise UserError(f"--min-lr {self.min_lr} is above --lr {self.lr}")
        if self.warmup_steps > self.steps and not self.resume:
            raise UserError(f"--warmup-steps {self.warmup_steps} are more than --steps {self.steps}")


@dataclass
class GenerateOptions(TextGenerateOptions):
    """Options of `ds generate FOLDER` for a run of minigpt."""

    prompts: tuple[str, ...] = option(
        (), "several texts to continue as one batch; with --seed N, N is the first one's, N + 1 the second one's, ..."
    )
    block_size: int | None = option(None, "tokens the model looks back on (not given: as in training)", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompts and self.prompt is not None:
            raise UserError("--prompt and --prompts contradict each other: one text, or several")
        if "" in self.prompts:
            raise UserError("--prompts: one is empty: give at least one character to continue")
