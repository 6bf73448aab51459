"""What `ds train minibert` and `ds predict` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.options import option, with_presets
from ds_core.training.run_options import MOST_THREADS, PrecisionOptions, RunOptions

from ds_zoo.finetuning.options import LR_HELP, FineTuningOptions, follow_pretrained


def _follow(values: dict[str, Any], given: set[str]) -> None:
    follow_pretrained(MiniBERTOptions, values, given)


@with_presets({}, _follow)
@dataclass
class MiniBERTOptions(PrecisionOptions, FineTuningOptions, RunOptions):
    """Options of `ds train minibert`."""

    decided = ("vocab_size", "lowercase", "num_layers", "num_heads", "embed_dim", "hidden_dim", "dropout")

    out: Path = option(
        Path("runs/minibert"), "the run folder: checkpoint, model, tokenizer, log and loss curve", may_change=True
    )
    # may_change, because the same text may lie elsewhere: another text is refused by `SameData`
    text: Path | None = option(
        None,
        "a UTF-8 text file to learn from (not given: the docstrings of Python's standard library)",
        may_change=True,
    )
    labelled: Path | None = option(
        None,
        "learn to classify instead: a CSV file (columns text and label) or JSON lines of texts with their labels",
        may_change=True,
    )
    next_sentence: bool = option(False, "learn from pairs of texts, too, whether the second follows the first")
    mask_share: float = option(
        0.4, "share of the tokens that is masked in training; evaluations mask 15 %", minimum=0.01, maximum=0.9
    )
    vocab_size: int = option(512, "tokens of WordPiece, at most", minimum=10)
    lowercase: bool = option(True, "make all letters lowercase and take their accents off")

    num_layers: int = option(2, "blocks", minimum=1)
    num_heads: int = option(4, "attention heads in a block", minimum=1)
    embed_dim: int = option(64, "length of a token's vector", minimum=1)
    hidden_dim: int = option(256, "width between the layers of a feed-forward network", minimum=1)
    max_length: int = option(32, "tokens the model looks at together, [CLS] and [SEP] included", minimum=7)
    dropout: float = option(0.0, "share of activations and attention weights dropped", minimum=0, maximum=0.99)
    initializer_range: float = option(0.09, "standard deviation of the initial weights", minimum=0)
    initial_positions: str = option("sinusoids", "what the learned positions begin as", choices=["sinusoids", "random"])

    steps: int = option(7000, "optimizer steps", minimum=1, may_change=True)
    batch_size: int = option(32, "texts in a batch", minimum=1)
    accumulate: int = option(1, "batches per step", minimum=1)
    lr: float = option(2e-3, LR_HELP, minimum=0)
    min_lr: float = option(0.0, "learning rate at the end of the cosine", minimum=0)
    warmup_steps: int = option(400, "steps of warm-up; at most a tenth of --steps", minimum=0)
    beta1: float = option(0.9, "AdamW's average of gradients", minimum=0, maximum=0.999999)
    beta2: float = option(0.98, "AdamW's average of their squares", minimum=0, maximum=0.999999)
    weight_decay: float = option(0.05, "AdamW's, on matrices only", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)

    evaluate_every: int = option(1000, "steps between evaluations", minimum=1)
    evaluate_batches: int = option(20, "batches of an evaluation of masked tokens", minimum=1)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            raise UserError(f"--num-heads {self.num_heads} does not divide --embed-dim {self.embed_dim}")
        if self.min_lr > self.lr:
            raise UserError(f"--min-lr {self.min_lr} is above --lr {self.lr}")
        if self.labelled is not None and (self.text is not None or self.next_sentence):
            other = "--text" if self.text is not None else "--next-sentence"
            raise UserError(f"--labelled contradicts {other}: the labelled texts are what is learned from")


@dataclass
class PredictOptions:
    """Options of `ds predict FOLDER` for a run of minibert."""

    text: str | None = option(None, "a text: with [MASK] in it where words are to be guessed, or to be classified")
    pair: str | None = option(None, "a second text that may follow, for a run with --next-sentence or on pairs")
    top: int = option(5, "how many of the likeliest words or classes to name", minimum=1)
    weights: str = option("best", "of the best evaluation, or of the last checkpoint", choices=["best", "last"])
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1, maximum=MOST_THREADS)

    def __post_init__(self) -> None:
        if self.text is None:
            raise UserError("predict for which text? give --text TEXT")
        for flag, text in (("--text", self.text), ("--pair", self.pair)):
            if text is not None and not text.strip():
                raise UserError(f"{flag} is empty: expected at least a word")
