"""What `ds train minigpt` and `ds generate` can be told, and the presets."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ds_core.errors import UserError
from ds_core.options import option
from ds_core.options.presets import chosen_preset, fill_from_preset, preset_option
from ds_core.training.checkpoint import describe_checkpoint
from ds_core.training.run_folder import CHECKPOINT_FILE, RunOptions

# Values of the options that depend on the preset. "nanogpt-cpu" is the recipe that nanoGPT publishes for a laptop
# (https://github.com/karpathy/nanoGPT, "I only have a macbook"), but for the 20 evaluation batches being the same
# each time. "default" is tuned to learn as much as it can in the time of that one.
PRESETS: dict[str, dict[str, Any]] = {
    "nanogpt-cpu": {
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
        "dropout": 0.0,
        "bias": False,
        "evaluate_every": 250,
        "evaluate_batches": 20,
        "sample_every": 0,
    },
}
PRESETS["default"] = PRESETS["nanogpt-cpu"] | {"steps": 2300, "lr": 4e-3, "min_lr": 1e-4}
PRESETS["demo"] = PRESETS["default"] | {"steps": 1000, "sample_every": 250}

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

# BPE's own default; characters have no choice
_BPE_VOCABULARY = 1024

# Training draws from the streams 2 * seed and 2 * seed + 1, which have to be 64-bit numbers
_LARGEST_SEED = 2**62


_preset = partial(preset_option, PRESETS)


@dataclass
class TrainOptions(RunOptions):
    """Options of `ds train minigpt`; those left None take the preset's value."""

    out: Path = option(
        Path("runs/minigpt"), "the run folder: checkpoint, model, tokenizer, log and loss curve", may_change=True
    )
    preset: str = option("default", "where the options not given come from", choices=list(PRESETS))

    text: Path | None = option(
        None, "a UTF-8 text file to learn from (not given: Python's standard library)", may_change=True
    )  # the same text elsewhere: another one is refused by `SameText`
    tokenizer: str = option("characters", "what a token is", choices=["characters", "bpe"])
    vocab_size: int | None = option(None, f"tokens of bpe (not given: {_BPE_VOCABULARY})", minimum=256)

    layers: int | None = _preset("layers", "blocks", minimum=1)
    heads: int | None = _preset("heads", "attention heads in a block", minimum=1)
    width: int | None = _preset("width", "length of a token's vector", minimum=1)
    block_size: int | None = _preset("block_size", "tokens the model looks at together", minimum=1)
    dropout: float | None = _preset("dropout", "share of activations dropped in training", minimum=0, maximum=0.99)
    bias: bool | None = _preset("bias", "whether linear layers and normalisations have biases")

    steps: int | None = _preset("steps", "optimizer steps", minimum=1, may_change=True)
    batch_size: int | None = _preset("batch_size", "blocks in a batch", minimum=1)
    accumulate: int = option(1, "batches a step", minimum=1)
    lr: float | None = _preset("lr", "learning rate after the warm-up", minimum=0)
    min_lr: float | None = _preset("min_lr", "learning rate that the cosine ends at", minimum=0)
    warmup_steps: int | None = _preset("warmup_steps", "steps over which the learning rate rises", minimum=0)
    beta1: float | None = _preset("beta1", "AdamW's average of gradients", minimum=0, maximum=0.999999)
    beta2: float | None = _preset("beta2", "AdamW's average of their squares", minimum=0, maximum=0.999999)
    weight_decay: float | None = _preset("weight_decay", "AdamW's, on matrices only", minimum=0)
    clip_norm: float | None = _preset("clip_norm", "gradient norm that is clipped at; 0: none", minimum=0)

    evaluate_every: int | None = _preset("evaluate_every", "steps between evaluations", minimum=1)
    evaluate_batches: int | None = _preset("evaluate_batches", "batches of an evaluation", minimum=1)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )
    sample_every: int | None = _preset("sample_every", "steps between samples; 0: none", minimum=0, may_change=True)

    seed: int = option(0, "of the initial weights, the batches and dropout", minimum=0, maximum=_LARGEST_SEED)
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto: cuda where there is one", may_change=True)
    dtype: str = option("float32", "of weights and activations", choices=list(DTYPES))
    compile: str = option(
        "none", "none, the elementwise functions one by one, or the whole step", choices=["none", "pairs", "step"]
    )
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size is not None and self.tokenizer == "characters":
            raise UserError("--vocab-size contradicts --tokenizer characters: the text decides how many there are")
        if self.tokenizer == "bpe" and self.vocab_size is None:
            self.vocab_size = _BPE_VOCABULARY
        preset = chosen_preset(PRESETS, self.preset)
        if self.lr is not None and self.min_lr is None:
            self.min_lr = self.lr * preset["min_lr"] / preset["lr"]
        if self.steps is not None and self.warmup_steps is None:
            self.warmup_steps = min(preset["warmup_steps"], self.steps // 10)
        fill_from_preset(self, PRESETS)
        self._check()

    def _check(self) -> None:
        values: Any = self  # no field of a preset is None any more
        if values.width % values.heads:
            raise UserError(f"--heads {self.heads} does not divide --width {self.width}")
        if values.min_lr > values.lr:
            raise UserError(f"--min-lr {self.min_lr} is above --lr {self.lr}")
        checkpoint = Path(self.out) / CHECKPOINT_FILE
        if self.resume and checkpoint.exists():
            step = describe_checkpoint(checkpoint).step
            if step > values.steps:  # said before the folder is touched
                raise UserError(f"the run is at step {step} already, beyond the {self.steps} steps asked for")
        if values.warmup_steps > values.steps:
            raise UserError(f"--warmup-steps {self.warmup_steps} are more than --steps {self.steps}")


@dataclass
class GenerateOptions:
    """Options of `ds generate FOLDER` for a run of minigpt."""

    prompt: str | None = option(None, "what the text goes on from (not given: a new line)")
    tokens: int = option(500, "how many tokens to write", minimum=0)
    temperature: float = option(
        0.8, "below 1: likelier tokens, above 1: more surprising ones; 0: always the likeliest", minimum=0
    )
    top_k: int | None = option(None, "draw among the k likeliest tokens only", minimum=1)
    top_p: float | None = option(
        None, "draw among the likeliest tokens of this total probability", minimum=0, maximum=1
    )
    seed: int | None = option(
        None, "of the draws (not given: another text each time)", minimum=0, maximum=_LARGEST_SEED
    )
    block_size: int | None = option(
        None, "tokens the model looks back on (not given: what it was trained on)", minimum=1
    )
    stream: bool = option(True, "print each token as it comes, or the text when it is whole")
    weights: str = option("best", "of the best evaluation, or of the last checkpoint", choices=["best", "last"])
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto: cuda where there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1)

    def __post_init__(self) -> None:
        if self.prompt == "":
            raise UserError("--prompt is empty: give at least one character to go on from")
        if self.top_p == 0:
            raise UserError("--top-p: given 0, expected more than 0")
