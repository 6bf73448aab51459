"""From a text to what MiniGPT learns from: a tokenizer, and tokens to train and to validate on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core.errors import CheckpointError, UserError
from ds_core.text.tokenizers import BPETokenizer, CharacterTokenizer, Tokenizer, load_tokenizer
from ds_core.training.callbacks import Callback
from ds_core.training.run_folder import CHECKPOINT_FILE
from torch import Tensor

from ds_zoo.minigpt.options import TrainOptions
from ds_zoo.text_data import read_text, standard_library_text

TOKENIZER_FILE = "tokenizer.json"
TRAINING_SHARE = 0.9


@dataclass(frozen=True)
class Corpus:
    """A text, its tokenizer, and its first nine tenths and last tenth as tokens."""

    source: str
    digest: str
    tokenizer: Tokenizer
    training: Tensor
    validation: Tensor


def read_corpus(options: TrainOptions) -> Corpus:
    """Read the text, learn the tokenizer (or read the one that a checkpoint to be resumed was trained with), and split.

    BPE learns its merges from the training part alone; characters are collected from the whole text, since one that
    only the validation part has could not be encoded at all.

    Raises:
        UserError: a text that cannot be read, or is too short for the block size.
    """
    text, source = _text(options.text)
    split = int(len(text) * TRAINING_SHARE)
    training, validation = text[:split], text[split:]
    saved = Path(options.out) / TOKENIZER_FILE
    tokenizer: Tokenizer
    # without a checkpoint the run begins anew, and the file may be of another run, which was being overwritten
    if options.resume and (Path(options.out) / CHECKPOINT_FILE).exists() and saved.exists():
        tokenizer = load_tokenizer(saved)
    elif options.tokenizer == "bpe":
        assert options.vocab_size is not None
        tokenizer = BPETokenizer.train(training, options.vocab_size)
    else:
        tokenizer = CharacterTokenizer(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    corpus = Corpus(source, digest, tokenizer, tokenizer.encode(training, source), tokenizer.encode(validation, source))
    assert options.block_size is not None
    for part, tokens in [("training", corpus.training), ("validation", corpus.validation)]:
        if len(tokens) <= options.block_size:
            raise UserError(
                f"{source} is too short: its {part} part has {len(tokens)} tokens, expected at least "
                f"{options.block_size + 1}, one more than --block-size"
            )
    return corpus


def _text(path: Path | None) -> tuple[str, str]:
    if path is None:
        return standard_library_text(), "the Python standard library"
    return read_text(path), f"the text {path}"


class SameText(Callback):
    """Keeps the digest of the text in the checkpoint, so that a run is not taken up with another text.

    `load_state_dict` raises `CheckpointError` where the digests differ.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def state_dict(self) -> dict[str, Any]:
        return {"sha256": self.corpus.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["sha256"] != self.corpus.digest:
            raise CheckpointError(f"{self.corpus.source} is not as it was when the run began")
