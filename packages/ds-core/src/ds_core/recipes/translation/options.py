"""Options that every recipe of translation shares, and those of `ds translate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core.errors import UserError
from ds_core.options import option
from ds_core.options.presets import Follow, Presets
from ds_core.training.run_options import PrecisionOptions, RunOptions

_LEAST_BPE = 260  # bytes, special tokens and a merge
# A model learns what to do about unknown words from the rare ones. If all were known, it would learn nothing of them.
_MIN_FREQUENCY = 2


@dataclass
class TranslationOptions(PrecisionOptions, RunOptions):
    """Data, training and test of a translation; a recipe inherits them and adds those of its model."""

    source_language: str = option("en", "translate from: a suffix of the Multi30k files, or en, de, fr, es")
    target_language: str = option("de", "translate into")
    pairs: Path | None = option(
        None, "a CSV or TSV file with a sentence and its translation in each row", may_change=True
    )
    header: bool = option(False, "the first row of --pairs names the columns")
    multi30k: Path | None = option(
        None, "a folder with train, val and test files in the two languages, line by line", may_change=True
    )
    validation: float = option(
        0.05, "share of the pairs held out to choose the best weights", minimum=0.001, maximum=0.5
    )
    test: float = option(0.05, "share of the pairs held out for the final test", minimum=0.001, maximum=0.5)

    vocabulary: str = option("bpe", "what a token is: bytes and their merges, or a word", choices=["bpe", "words"])
    vocab_size: int = option(2000, "tokens of a vocabulary, at most; of --vocabulary bpe at least 260", minimum=5)
    min_frequency: int = option(
        _MIN_FREQUENCY, "how often a word of --vocabulary words must occur; rarer ones are unknown", minimum=1
    )
    share_vocabulary: bool = option(True, "use one vocabulary and one embedding for both languages")
    embed_dim: int = option(128, "length of a token's vector", minimum=1)
    dropout: float = option(0.05, "share of activations dropped in training", minimum=0, maximum=0.99)

    epochs: int = option(34, "how often every pair is seen", minimum=1, may_change=True)
    max_tokens: int = option(1200, "tokens of a batch on either side, padding included", minimum=8)
    accumulate: int = option(1, "batches per step", minimum=1)
    schedule: str = option(
        "cosine", "how the learning rate changes; with noam, --lr is a factor", choices=["cosine", "noam", "constant"]
    )
    lr: float = option(3e-3, "peak learning rate, reached after warm-up; --schedule constant has no warm-up", minimum=0)
    warmup_steps: int = option(100, "steps of warm-up, at most a fifth of the run with cosine", minimum=1)
    weight_decay: float = option(0.01, "AdamW's, on matrices only", minimum=0)
    beta2: float = option(0.98, "AdamW's average of the squares of gradients", minimum=0, maximum=0.999999)
    label_smoothing: float = option(0.1, "share of the uniform distribution in each target", minimum=0, maximum=0.9)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)
    average: int = option(1, "average the weights of the last N evaluations; 1 keeps the best one", minimum=1)

    beam_size: int = option(4, "hypotheses kept while the test sentences are translated", minimum=1)
    length_penalty: float = option(0.6, "0: the likeliest translation; more: longer ones", minimum=0)
    evaluate_every: int = option(1, "epochs between evaluations", minimum=1)
    checkpoint_every: int | None = option(
        None, "steps between checkpoints (not given: at each evaluation)", minimum=1, may_change=True
    )
    compile: str = option("none", "none, or the elementwise functions one by one", choices=["none", "pairs"])

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs is not None and self.multi30k is not None:
            raise UserError("--pairs and --multi30k contradict each other: which of the two?")
        if self.header and self.pairs is None:
            raise UserError("--header is about --pairs, which is not given")
        if self.vocabulary == "bpe" and self.vocab_size < _LEAST_BPE:
            raise UserError(
                f"--vocab-size: given {self.vocab_size}, expected at least {_LEAST_BPE} with --vocabulary bpe, because "
                "each of the 256 bytes is a token"
            )
        if self.vocabulary == "bpe" and self.min_frequency != _MIN_FREQUENCY:
            raise UserError("--min-frequency contradicts --vocabulary bpe, which knows every word: give one of the two")
        if self.source_language == self.target_language:
            raise UserError(f"--source-language and --target-language are both {self.source_language!r}")
        if self.validation + self.test >= 1:
            raise UserError(f"--validation {self.validation} and --test {self.test} leave nothing to train on")


def ask_for_rate(presets: Presets) -> Follow:
    """For `with_presets`: who changes to or from noam must give --lr, because its meaning is another one."""

    def follow(values: dict[str, Any], given: set[str]) -> None:
        usual = presets.get(values["preset"], {}).get("schedule", TranslationOptions.schedule)
        if "schedule" in given and "lr" not in given and (values["schedule"] == "noam") != (usual == "noam"):
            raise UserError(
                f"--schedule {values['schedule']} needs --lr: the preset {values['preset']} has one for {usual} (with "
                "noam it is a factor, 1 in the paper)"
            )

    return follow


@dataclass
class CommandOptions:
    """Options of `ds translate FOLDER`."""

    text: str | None = option(None, "a sentence (not given: the lines of --input, or of standard input)")
    input: Path | None = option(None, "a UTF-8 file with a sentence in each line")
    output: Path | None = option(None, "write the translations to this file (not given: to standard output)")
    beam_size: int = option(4, "hypotheses kept; 1: the likeliest token each time", minimum=1)
    length_penalty: float = option(0.6, "0: the likeliest translation; more: longer ones", minimum=0)
    max_length: int | None = option(
        None, "tokens of a translation, at most (not given: 50 more than the sentence has)", minimum=1
    )
    batch_size: int = option(64, "sentences translated together", minimum=1)
    maps: Path | None = option(None, "draw what each word of the first translation looked at, as a PNG")
    weights: str = option(
        "final", "of the end of training, of the best evaluation, or of the last checkpoint",
        choices=["final", "best", "last"],
    )  # fmt: skip
    device: str = option("auto", "cpu, cuda, cuda:1, ...; auto is cuda if there is one")
    threads: int | None = option(None, "CPU threads (not given: PyTorch's choice)", minimum=1)

    def __post_init__(self) -> None:
        if self.text is not None and self.input is not None:
            raise UserError("--text and --input contradict each other: which of the two?")
        if self.text is not None and not self.text.strip():
            raise UserError("--text is empty: give a sentence")
