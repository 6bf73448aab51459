"""What every tokenizer offers, and how a saved one is read. Theory: docs/tokenizers.md."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ds_core.errors import UserError
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.characters import CharacterTokenizer
from ds_core.text.words import WordTokenizer

# The special tokens of a translation, and their numbers.
SPECIAL_TOKENS = ("<pad>", "<begin>", "<end>")
PAD, BEGIN, END = 0, 1, 2


class StreamingDecoder(Protocol):
    """Turns tokens into text as they come."""

    def push(self, token: int) -> str:
        """The characters that are complete now; empty inside a character of several tokens."""
        ...

    def finish(self) -> str:
        """What remains of an unfinished character: U+FFFD, or nothing."""
        ...


class Tokenizer(Protocol):
    """Text to token numbers and back."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, source: str = "the text") -> Tensor:
        """-> tokens (N,) int64. `source` names the text in error messages."""
        ...

    def decode(self, tokens: Iterable[int] | Tensor) -> str: ...

    def streaming_decoder(self) -> StreamingDecoder: ...

    def to_json(self) -> str:
        """What `load_tokenizer` reads."""
        ...


class SentenceTokenizer(Tokenizer, Protocol):
    """What the two sides of a translation need: many sentences at a time, and tokens that stand for no text."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the tokens that stand for no text; their numbers are those from 0 on."""
        ...

    def encode_batch(self, texts: Iterable[str], source: str = "a text") -> list[list[int]]:
        """The tokens of each text. `source` names a text in error messages."""
        ...

    def tokens(self, numbers: Iterable[int] | Tensor) -> list[str]:
        """Each token for people to read."""
        ...


def load_tokenizer(path: str | Path) -> CharacterTokenizer | BPETokenizer | WordTokenizer:
    """Read a file that holds what `to_json` gave.

    Raises:
        UserError: the file is missing or is not a tokenizer.
        MissingPackageError: it needs the library `tokenizers`, which is not installed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the tokenizer {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        fields: Any = json.loads(text)
        kind = fields.get("type") if isinstance(fields, dict) else None
        if kind == "characters":
            return CharacterTokenizer(fields["characters"])
        if kind == WordTokenizer.kind:
            return WordTokenizer.from_json(text)
        return BPETokenizer.from_json(text)
    except UserError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{path} is not a tokenizer that ds wrote: {error}") from error
