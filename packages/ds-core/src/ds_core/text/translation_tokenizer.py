"""Sentences to token numbers and back: byte-level BPE. Theory: docs/translation_data.md."""

from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from ds_core.errors import UserError

PAD, BEGIN, END = 0, 1, 2
_SPECIAL = ("<pad>", "<begin>", "<end>")
_BYTES = 256


class TranslationTokenizer:
    """Byte-pair encoding of the UTF-8 bytes (Sennrich et al., 2016), for one language or for several together.

    Tokens 0, 1 and 2 are padding, begin and end; what a text is encoded to has none of them, even where it reads
    "<end>". Every text can be encoded, since all 256 bytes are tokens, and is decoded to what it was, in Unicode's
    form NFC. Digits are tokens by themselves, so that numbers are copied digit by digit.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """`inner` is the library's tokenizer, whose numbers are less by the three special tokens."""
        self.inner = inner
        self._size = int(inner.get_vocab_size()) + len(_SPECIAL)
        to_byte = {character: byte for byte, character in _byte_characters().items()}
        pieces = {number: piece for piece, number in inner.get_vocab().items()}
        self._bytes = [bytes(to_byte[character] for character in pieces[number]) for number in range(len(pieces))]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "TranslationTokenizer":
        """Merge the commonest pair of tokens until there are `vocab_size` (fewer where there are no more pairs).

        Raises:
            ValueError: `vocab_size` below 259, the bytes and the special tokens; no text.
        """
        texts = list(texts)
        least = _BYTES + len(_SPECIAL)
        if vocab_size < least:
            raise ValueError(
                f"TranslationTokenizer: given vocab_size={vocab_size}, expected at least {least}: "
                f"{_BYTES} bytes and {len(_SPECIAL)} special tokens"
            )
        if not any(texts):
            raise ValueError(f"TranslationTokenizer: given {len(texts)} texts without a character, expected some")
        inner = tokenizers.Tokenizer(models.BPE())
        inner.normalizer = normalizers.NFC()
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(_SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator([_encodable(text) for text in texts], trainer=trainer)
        return cls(inner)

    @property
    def vocab_size(self) -> int:
        """Of all tokens, the special ones included."""
        return self._size

    def encode(self, text: str) -> list[int]:
        """Tokens without begin and end.

        Raises:
            UserError: half of a surrogate pair, which UTF-8 has no bytes for (a terminal's undecodable input).
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each."""
        found = self.inner.encode_batch([_encodable(text) for text in texts], add_special_tokens=False)
        return [[number + len(_SPECIAL) for number in encoding.ids] for encoding in found]

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text, special tokens passed over; bytes that do not make a character become U+FFFD.

        Raises:
            ValueError: a number that is no token's.
        """
        return b"".join(self._of(number) for number in _integers(ids)).decode("utf-8", "replace")

    def pieces(self, ids: Iterable[int] | Tensor) -> list[str]:
        """Each token as one may read it: a space as ▁, a byte that is no character by itself as <0xC3>."""
        return [_readable(number, self._of(number)) for number in _integers(ids)]

    def to_json(self) -> str:
        """What `load` reads: the library's own form, without the special tokens."""
        return str(self.inner.to_str(pretty=False))

    @classmethod
    def load(cls, path: str | Path) -> "TranslationTokenizer":
        """Read what `to_json` gave.

        Raises:
            UserError: a file that cannot be read or is not a tokenizer of this kind.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the tokenizer {path}: {getattr(error, 'strerror', None) or error}") from error
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"{path} is not a tokenizer that ds wrote: {error}") from error

    def _of(self, number: int) -> bytes:
        if not 0 <= number < self._size:
            raise ValueError(f"TranslationTokenizer: given token {number}, expected 0 to {self._size - 1}")
        return b"" if number < len(_SPECIAL) else self._bytes[number - len(_SPECIAL)]

    def __repr__(self) -> str:
        return f"TranslationTokenizer({self.vocab_size} tokens)"


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"a sentence has no UTF-8 form: {text[error.start]!r} at position {error.start}") from error
    return text


def _readable(number: int, piece: bytes) -> str:
    if number < len(_SPECIAL):
        return _SPECIAL[number]
    try:
        return piece.decode().replace(" ", "▁")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in piece)


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where it prints in Latin-1, else a character from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(_BYTES) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(_BYTES + n) for n, byte in enumerate(others)}


def _integers(ids: Iterable[int] | Tensor) -> Iterable[int]:
    return ids.tolist() if isinstance(ids, Tensor) else ids
