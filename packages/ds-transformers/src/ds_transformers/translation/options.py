"""What `ds train translate` and `ds translate` can be told, and the presets."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ds_core.errors import UserError
from ds_core.options import option
from ds_core.options.presets import fill_from_preset, preset_option
from ds_core.training.run_folder import RunOptions

# Values of the options that depend on the preset. "default" learns the shipped sentences; "multi30k" is for 29,000
# pairs of captions, and has nine million parameters; "paper" is the base model of Vaswani et al., 2017, table 3.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "width": 128,
        "heads": 4,
        "hidden": 512,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.05,
        "norm_first": True,
        "vocab_size": 2000,
        "max_tokens": 1200,
        "epochs": 34,
        "schedule": "cosine",
        "lr": 3e-3,
        "warmup_steps": 100,
        "weight_decay": 0.01,
        "average": 1,
    },
    "multi30k": {
        "width": 256,
        "heads": 8,
        "hidden": 1024,
        "encoder_layers": 4,
        "decoder_layers": 3,
        "dropout": 0.3,
        "norm_first": True,
        "vocab_size": 10000,
        "max_tokens": 2500,
        "epochs": 20,
        "schedule": "cosine",
        "lr": 1e-3,
        "warmup_steps": 1000,
        "weight_decay": 0.01,
        "average": 5,
    },
    "paper": {
        "width": 512,
        "heads": 8,
        "hidden": 2048,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "dropout": 0.1,
        "norm_first": False,
        "vocab_size": 37000,
        "max_tokens": 25000,
        "epochs": 30,
        "schedule": "noam",
        "lr": 1.0,
        "warmup_steps": 4000,
        "weight_decay": 0.0,
        "average": 5,
    },
}

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

_preset = partial(preset_option, PRESETS)


@dataclass
class TranslateOptions(RunOptions):
    """Options of `ds train translate`; those left None take the preset's value."""

    out: Path = option(
        Path("runs/translate"), "the run folder: checkpoint, weights, tokenizers, log, plots", may_change=True
    )
    preset: str = option("default", "where the options not given come from", choices=list(PRESETS))

    source_language: str = option("en", "what is translated: a suffix of the Multi30k files, or en, de, fr, es")
    target_language: str = option("de", "what it is translated into")
    pairs: Path | None = option(
        None, "a CSV or TSV file with a sentence and its translation in each row", may_change=True
    )
    header: bool = option(False, "whether the first row of --pairs names the columns")
    multi30k: Path | None = option(
        None, "a folder with train, val and test files in the two languages, line by line", may_change=True
    )
    validation: float = option(0.05, "share of the pairs that evaluations are for", minimum=0.001, maximum=0.5)
    test: float = option(0.05, "share of the pairs that the end is for", minimum=0.001, maximum=0.5)

    vocab_size: int | None = _preset("vocab_size", "tokens of a vocabulary, at most", minimum=260)
    share_vocabulary: bool = option(True, "one vocabulary and embedding for both languages")
    tied: bool = option(True, "the target's embedding is the projection to its vocabulary too")

    width: int | None = _preset("width", "length of a token's vector", minimum=1)
    heads: int | None = _preset("heads", "attention heads", minimum=1)
    hidden: int | None = _preset("hidden", "width inside the feed-forward networks", minimum=1)
    encoder_layers: int | None = _preset("encoder_layers", "layers of the encoder", minimum=1)
    decoder_layers: int | None = _preset("decoder_layers", "layers of the decoder", minimum=1)
    norm_first: bool | None = _preset("norm_first", "norms before the branches; the paper's are behind them")
    activation: str = option("relu", "inside the feed-forward networks", choices=["relu", "gelu"])
    share_weights: bool = option(False, "one layer for the whole of each stack")
    dropout: float | None = _preset("dropout", "share dropped in training", minimum=0, maximum=0.99)
    recompute: bool = option(False, "keep each layer's input only: less memory, a third more time", may_change=True)

    epochs: int | None = _preset("epochs", "how often every pair is seen", minimum=1, may_change=True)
    max_tokens: int | None = _preset("max_tokens", "tokens of a batch, padding included, on either side", minimum=8)
    accumulate: int = option(1, "batches a step", minimum=1)
    schedule: str | None = _preset(
        "schedule", "how the learning rate goes; of noam --lr is the factor", choices=["cosine", "noam", "constant"]
    )
    lr: float | None = _preset("lr", "learning rate after the warm-up, which constant has none of", minimum=0)
    warmup_steps: int | None = _preset("warmup_steps", "steps over which the learning rate rises", minimum=1)
    weight_decay: float | None = _preset("weight_decay", "AdamW's, on matrices only", minimum=0)
    beta2: float = option(0.98, "AdamW's average of the squares of gradients", minimum=0, maximum=0.999999)
    label_smoothing: float = option(0.1, "share of the uniform distribution in each target", minimum=0, maximum=0.9)
    clip_norm: float = option(1.0, "gradient norm that is clipped at; 0: none", minimum=0)
    average: int | None = _preset(
        "average", "the final weights are the mean of those of so many last evaluations; 1: the best one's", minimum=1
    )

    beam_size: int = option(4, "hypotheses side by side when the test sentences are translated", minimum=1)
    length_penalty: float = option(0.6, "0: the likeliest translation; more: longer ones", minimum=0)
    evaluate_every: int = option(1, "epochs between evaluations", minimum=1)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )
    plots: bool = option(True, "draw the loss and attention maps, if matplotlib is there", may_change=True)

    seed: int = option(0, "of the initial weights, the batches and dropout", minimum=0, maximum=2**62)
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto: cuda where there is one", may_change=True)
    dtype: str = option("float32", "of weights and activations", choices=list(DTYPES))
    compile: str = option("none", "none, or the elementwise functions one by one", choices=["none", "pairs"])
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        needs_rate = self.schedule is not None and self.lr is None
        fill_from_preset(self, PRESETS)
        usual = PRESETS[self.preset]["schedule"]
        if needs_rate and (self.schedule == "noam") != (usual == "noam"):
            raise UserError(
                f"--schedule {self.schedule} needs --lr: that of the preset {self.preset} is for {usual} (of noam it "
                "is a factor, the paper's is 1)"
            )
        values: Any = self  # no field of a preset is None any more
        if self.pairs is not None and self.multi30k is not None:
            raise UserError("--pairs and --multi30k contradict each other: which of the two?")
        if self.header and self.pairs is None:
            raise UserError("--header is about --pairs, which is not given")
        if self.source_language == self.target_language:
            raise UserError(f"--source-language and --target-language are both {self.source_language!r}")
        if values.width % values.heads:
            raise UserError(f"--heads {self.heads} does not divide --width {self.width}")
        if self.validation + self.test >= 1:
            raise UserError(f"--validation {self.validation} and --test {self.test} leave nothing to train on")


@dataclass
class UseOptions:
    """Options of `ds translate FOLDER`."""

    text: str | None = option(None, "a sentence (not given: the lines of --input, or of standard input)")
    input: Path | None = option(None, "a UTF-8 file, a sentence in each line")
    output: Path | None = option(None, "where the translations go (not given: standard output)")
    beam_size: int = option(4, "hypotheses side by side; 1: the likeliest token each time", minimum=1)
    length_penalty: float = option(0.6, "0: the likeliest translation; more: longer ones", minimum=0)
    max_length: int | None = option(
        None, "tokens of a translation, at most (not given: 50 more than the sentence has)", minimum=1
    )
    batch_size: int = option(64, "sentences translated together", minimum=1)
    maps: Path | None = option(None, "draw what each word of the first translation looked at, as a PNG")
    weights: str = option(
        "final", "of the end of the training, of the best evaluation, or of the last checkpoint",
        choices=["final", "best", "last"],
    )  # fmt: skip
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto: cuda where there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1)

    def __post_init__(self) -> None:
        if self.text is not None and self.input is not None:
            raise UserError("--text and --input contradict each other: which of the two?")
        if self.text is not None and not self.text.strip():
            raise UserError("--text is empty: give a sentence")
