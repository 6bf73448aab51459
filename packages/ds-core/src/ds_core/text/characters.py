"""One token for each character. Theory: docs/tokenizers.md."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ds_core.errors import UserError


class CharacterTokenizer:
    """One token for each character that occurs in a text, in the order of their code points."""

    def __init__(self, characters: str) -> None:
        self.characters = "".join(sorted(set(characters)))
        self._codes = _code_points(self.characters)

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def encode(self, text: str, source: str = "the text") -> Tensor:
        """-> tokens (N,) int64. `source` names the text in error messages.

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
        """The text.

        Raises:
            ValueError: a number that is not a token's.
        """
        return "".join(self._character(token) for token in (tokens.tolist() if isinstance(tokens, Tensor) else tokens))

    def streaming_decoder(self) -> "CharacterDecoder":
        """A `StreamingDecoder`."""
        return CharacterDecoder(self)

    def to_json(self) -> str:
        return json.dumps({"type": "characters", "characters": self.characters})

    def _character(self, token: int) -> str:
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"CharacterTokenizer: given token {token}, expected 0 to {self.vocab_size - 1}")
        return self.characters[token]

    def __repr__(self) -> str:
        return f"CharacterTokenizer({self.vocab_size} characters)"


class CharacterDecoder:
    """Text from tokens as they come."""

    def __init__(self, tokenizer: CharacterTokenizer) -> None:
        self._tokenizer = tokenizer

    def push(self, token: int) -> str:
        """The token's character."""
        return self._tokenizer.decode([token])

    def finish(self) -> str:
        """Nothing: no character is ever unfinished."""
        return ""


def _code_points(text: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)


def _shortened(characters: str) -> str:
    shown = repr(characters)
    return shown if len(shown) <= 80 else shown[:77] + "...'"
