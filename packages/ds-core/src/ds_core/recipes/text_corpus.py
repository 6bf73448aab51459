"""From a text to what a language model learns from: a tokenizer, and tokens to train and to validate on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ds_core.errors import UserError
from ds_core.options import option
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.characters import CharacterTokenizer
from ds_core.text.text_data import read_text, standard_library_text
from ds_core.text.tokenizers import Tokenizer, load_tokenizer
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import RunOptions

TOKENIZER_FILE = "tokenizer.json"
TRAINING_SHARE = 0.9
_BPE_VOCABULARY = 1024


@dataclass
class TextOptions(RunOptions):
    """Which text, and what a token of it is; a recipe that learns a text inherits them."""

    # may_change, because the same text may lie elsewhere: another text is refused by `SameData`
    text: Path | None = option(
        None, "a UTF-8 text file to learn from (not given: Python's standard library)", may_change=True
    )
    tokenizer: str = option("characters", "what a token is", choices=["characters", "bpe"])
    vocab_size: int = option(_BPE_VOCABULARY, "tokens of --tokenizer bpe, at most", minimum=256)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer == "characters" and self.vocab_size != _BPE_VOCABULARY:
            raise UserError("--vocab-size contradicts --tokenizer characters: the text decides how many there are")


@dataclass(frozen=True)
class Corpus:
    """A text, its tokenizer, and its first nine tenths and last tenth as tokens."""

    source: str
    digest: str
    tokenizer: Tokenizer
    training: Tensor
    validation: Tensor


def read_corpus(
    options: TextOptions, block_size: int, option_name: str = "--block-size", tokenizer: Tokenizer | None = None
) -> Corpus:
    """Read the text, learn the tokenizer (or read the one of the checkpoint to be resumed), and split.

    Each part must have a block of `block_size` tokens, and one more; `option_name` is what a person sets it by. A
    `tokenizer` that is given, because a pretrained model knows its tokens, is not learned.

    BPE learns its merges from the training part alone. Characters are collected from the whole text: one that occurs
    only in the validation part could not be encoded otherwise.

    Raises:
        UserError: the text cannot be read, or is too short for the block size.
    """
    text, source = _text(options.text)
    split = int(len(text) * TRAINING_SHARE)
    training, validation = text[:split], text[split:]
    # No token is shorter than a byte, so this finds a text too short for BPE to learn from.
    _refuse_too_short(source, "training", len(training.encode()), block_size, option_name)
    tokenizer = _tokenizer(options, text, training, tokenizer)
    digest = hashlib.sha256(text.encode()).hexdigest()
    corpus = Corpus(source, digest, tokenizer, tokenizer.encode(training, source), tokenizer.encode(validation, source))
    for part, tokens in [("training", corpus.training), ("validation", corpus.validation)]:
        _refuse_too_short(source, part, len(tokens), block_size, option_name)
    return corpus


def _tokenizer(options: TextOptions, text: str, training: str, given: Tokenizer | None) -> Tokenizer:
    saved = options.out / TOKENIZER_FILE
    # Without a checkpoint the run starts anew, and the file may be left from another run that was being overwritten.
    if options.resume and (options.out / CHECKPOINT_FILE).exists() and saved.exists():
        return load_tokenizer(saved)
    if given is not None:
        return given
    if options.tokenizer == "bpe":
        return BPETokenizer.train(training, options.vocab_size)
    return CharacterTokenizer(text)


def _refuse_too_short(source: str, part: str, tokens: int, block_size: int, option_name: str) -> None:
    if tokens <= block_size:
        raise UserError(
            f"{source} is too short: its {part} part has {tokens} tokens, expected at least "
            f"{block_size + 1}, one more than {option_name}"
        )


def _text(path: Path | None) -> tuple[str, str]:
    if path is None:
        return standard_library_text(), "the Python standard library"
    return read_text(path), f"the text {path}"
