"""What the tokenizers that lean on the library `tokenizers` have in common. Theory: docs/tokenizers.md."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ds_core.errors import UserError, needs_extra

if TYPE_CHECKING:
    import tokenizers

T = TypeVar("T", bound="LibraryTokenizer")


class LibraryTokenizer:
    """A tokenizer of the library, and special tokens that it does not know, so that no text is encoded to one of them.

    Args:
        inner: the library's tokenizer. Its numbers are less by the special tokens.
        special_tokens: their names.

    Attributes:
        kind: what its file says that it is.
    """

    kind: ClassVar[str]

    def __init__(self, inner: "tokenizers.Tokenizer", special_tokens: Sequence[str] = ()) -> None:
        self.inner = inner
        self.special_tokens = tuple(special_tokens)
        self._vocab_size = len(self.special_tokens) + int(inner.get_vocab_size())  # which counts anew each time

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, the special ones included."""
        return self._vocab_size

    def encode(self, text: str, source: str = "the text") -> Tensor:
        """-> tokens (N,) int64. `source` names the text in error messages.

        Raises:
            UserError: half of a surrogate pair, which UTF-8 has no bytes for (a terminal's undecodable input).
        """
        found = self.inner.encode(encodable(text, source), add_special_tokens=False)
        return torch.tensor(found.ids, dtype=torch.int64) + len(self.special_tokens)

    def encode_batch(self, texts: Iterable[str], source: str = "a text") -> list[list[int]]:
        """The tokens of each text, as lists, because texts differ in length.

        Raises:
            UserError: as `encode`.
        """
        found = self.inner.encode_batch([encodable(text, source) for text in texts], add_special_tokens=False)
        return [[number + len(self.special_tokens) for number in encoding.ids] for encoding in found]

    def to_json(self) -> str:
        """What `from_json` reads: an object that holds the library's own format."""
        inner = json.loads(self.inner.to_str(pretty=False))
        fields = {"type": self.kind, "special_tokens": self.special_tokens, "tokenizer": inner}
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls: type[T], text: str) -> T:
        """Undo `to_json`. What another text raises is up to the library; `load_tokenizer` makes a `UserError` of it."""
        with needs_extra("text", f"a tokenizer of {cls.kind}"):
            from tokenizers import Tokenizer
        fields: Any = json.loads(text)
        return cls(Tokenizer.from_str(json.dumps(fields["tokenizer"])), fields["special_tokens"])

    def checked(self, number: int) -> int:
        """`number`, which is a token's.

        Raises:
            ValueError: it is not.
        """
        if not 0 <= number < self.vocab_size:
            raise ValueError(f"{type(self).__name__}: given token {number}, expected 0 to {self.vocab_size - 1}")
        return number

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocab_size} tokens)"


def encodable(text: str, source: str) -> str:
    """`text`, which has a UTF-8 form.

    Raises:
        UserError: it has none.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{source} has no UTF-8 form: {text[error.start]!r} at position {error.start}") from error
    return text


def training_texts(texts: str | Iterable[str], owner: str) -> list[str]:
    """The texts that a tokenizer learns from, one or several.

    Raises:
        ValueError: none has a character.
        UserError: one has no UTF-8 form.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not any(texts):
        raise ValueError(f"{owner}: given {len(texts)} text(s) without a character, expected some")
    return [encodable(text, "a text") for text in texts]


def integers(tokens: Iterable[int] | Tensor) -> Iterable[int]:
    """Token numbers as Python's."""
    return tokens.tolist() if isinstance(tokens, Tensor) else tokens
