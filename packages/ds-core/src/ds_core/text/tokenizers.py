"""Text to token numbers and back: one token a character, or byte-level BPE. Theory: docs/tokenizers.md."""

import codecs
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor

from ds_core.errors import UserError


class StreamingDecoder(Protocol):
    """Turns tokens into text as they come."""

    def push(self, token: int) -> str:
        """The characters that are complete now; empty inside a character of several tokens."""
        ...

    def finish(self) -> str:
        """What remains of an unfinished character: U+FFFD, or nothing."""
        ...


class Tokenizer(Protocol):
    """What MiniGPT's recipe asks of a tokenizer."""

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


class CharacterTokenizer:
    """One token for each character that occurs in a text, in the order of their code points."""

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self._codes = _code_points(self.characters)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str, source: str = "the text") -> Tensor:
        """-> tokens (N,) int64.

        Raises:
            UserError: a character that is none of `characters`: which, and where.
        """
        codes = _code_points(text)
        tokens = np.searchsorted(self._codes, codes)
        known = self._codes[np.minimum(tokens, self.vocab_size - 1)] == codes if self.vocab_size else codes < 0
        if not known.all():
            position = int(np.argmin(known))
            character = text[position]
            raise UserError(
                f"{source} has a character the tokenizer never saw: {character!r} (U+{ord(character):04X}) at position "
                f"{position}; it knows {self.vocab_size} characters: {_shortened(self.characters)}"
            )
        return torch.from_numpy(tokens.astype(np.int64))

    def decode(self, tokens: Iterable[int] | Tensor) -> str:
        return "".join(self.characters[token] for token in _integers(tokens))

    def streaming_decoder(self) -> "StreamingDecoder":
        return _CharacterDecoder(self.characters)

    def to_json(self) -> str:
        return json.dumps({"type": "characters", "characters": self.characters})

    def __repr__(self) -> str:
        return f"CharacterTokenizer({self.vocab_size} characters)"


class BPETokenizer:
    """Byte-pair encoding of the UTF-8 bytes, as in GPT-2 (Sennrich et al., 2016; Radford et al., 2019).

    Every text can be encoded, since all 256 bytes are tokens. Learned and applied by the `tokenizers` library; the
    saved form is that library's own, which transformers reads too.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self.inner = inner
        to_byte = {character: byte for byte, character in _byte_characters().items()}
        pieces = {token: piece for piece, token in inner.get_vocab().items()}
        self._bytes = [bytes(to_byte[character] for character in pieces[token]) for token in range(len(pieces))]

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "BPETokenizer":
        """Merge the commonest pair of tokens until there are `vocab_size` (fewer where the text has no more pairs).

        Raises:
            ValueError: `vocab_size` below 256, the number of bytes.
        """
        if vocab_size < 256:
            raise ValueError(f"BPETokenizer: vocab_size is {vocab_size}, expected at least 256, one for each byte")
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator([text], trainer=trainer)
        return cls(inner)

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def encode(self, text: str, source: str = "the text") -> Tensor:
        """-> tokens (N,) int64.

        Raises:
            UserError: half of a surrogate pair, which UTF-8 has no bytes for (a terminal's undecodable input).
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{source} has no UTF-8 form: {text[error.start]!r} at position {error.start}") from error
        return torch.tensor(self.inner.encode(text).ids, dtype=torch.int64)

    def decode(self, tokens: Iterable[int] | Tensor) -> str:
        """Bytes that do not make a character become U+FFFD."""
        return b"".join(self._bytes[token] for token in _integers(tokens)).decode("utf-8", "replace")

    def streaming_decoder(self) -> "StreamingDecoder":
        return _ByteDecoder(self._bytes)

    def to_json(self) -> str:
        return str(self.inner.to_str(pretty=False))

    def __repr__(self) -> str:
        return f"BPETokenizer({self.vocab_size} tokens)"


def load_tokenizer(path: str | Path) -> CharacterTokenizer | BPETokenizer:
    """Read what `to_json` wrote.

    Raises:
        UserError: a file that is missing or is not a tokenizer.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the tokenizer {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        fields: Any = json.loads(text)
        if isinstance(fields, dict) and fields.get("type") == "characters":
            return CharacterTokenizer(fields["characters"])
        return BPETokenizer(tokenizers.Tokenizer.from_str(text))
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{path} is not a tokenizer that ds wrote: {error}") from error


class _CharacterDecoder:
    def __init__(self, characters: str) -> None:
        self.characters = characters

    def push(self, token: int) -> str:
        return self.characters[token]

    def finish(self) -> str:
        return ""


class _ByteDecoder:
    def __init__(self, token_bytes: list[bytes]) -> None:
        self.token_bytes = token_bytes
        self.utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self.utf8.decode(self.token_bytes[token])

    def finish(self) -> str:
        return self.utf8.decode(b"", final=True)


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where it prints in Latin-1, else a character from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _code_points(text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)


def _integers(tokens: Iterable[int] | Tensor) -> Iterable[int]:
    return tokens.tolist() if isinstance(tokens, Tensor) else tokens


def _shortened(characters: str) -> str:
    shown = repr(characters)
    return shown if len(shown) <= 80 else shown[:77] + "...'"
