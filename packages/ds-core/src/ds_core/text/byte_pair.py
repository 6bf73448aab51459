"""Byte-level byte-pair encoding, learned and applied by the library `tokenizers`. Theory: docs/tokenizers.md."""

import codecs
import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ds_core.errors import needs_extra
from ds_core.text.library_tokenizer import LibraryTokenizer, integers, training_texts

if TYPE_CHECKING:
    import tokenizers

_BYTES = 256


class BPETokenizer(LibraryTokenizer):
    """Byte-pair encoding of the UTF-8 bytes, as in GPT-2 (Sennrich et al., 2016; Radford et al., 2019).

    Every text can be encoded, since all 256 bytes are tokens. Special tokens, if there are any, have the numbers from
    0 on. No text is ever encoded to one of them, not even a text that reads "<end>", and they are decoded to nothing.

    Args:
        inner: the library's tokenizer. It knows nothing of the special tokens, so its numbers are less by them.
        special_tokens: their names.

    Raises:
        MissingPackageError: from `train` and `from_json`: the library `tokenizers` is not installed.
    """

    kind: ClassVar[str] = "byte-pair encoding"

    def __init__(self, inner: "tokenizers.Tokenizer", special_tokens: Sequence[str] = ()) -> None:
        super().__init__(inner, special_tokens)
        inner.encode_special_tokens = True  # those that it knows, as GPT-2's "<|endoftext|>", are plain text too
        to_byte = {character: byte for byte, character in _byte_characters().items()}
        spelling = {number: token for token, number in inner.get_vocab().items()}
        self._bytes = [b""] * len(self.special_tokens)
        self._bytes += [bytes(to_byte[character] for character in spelling[number]) for number in range(len(spelling))]

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (),
        split_digits: bool = False,
        nfc: bool = False,
    ) -> "BPETokenizer":
        """Merge the most frequent pair of tokens until there are `vocab_size`, or until no pair is left.

        Args:
            texts: one text, or several: no token spans two of them.
            vocab_size: how many tokens, the special ones included.
            special_tokens: names of tokens that stand for no text, such as padding.
            split_digits: make each digit a token by itself, so that numbers are copied digit by digit.
            nfc: bring every text to Unicode's form NFC, here and in `encode`: é is then one character, however typed.

        Raises:
            ValueError: `vocab_size` is below the 256 bytes and the special tokens; no text has a character.
            UserError: a text has no UTF-8 form.
        """
        least = _BYTES + len(special_tokens)
        if vocab_size < least:
            parts = f": {_BYTES} bytes and {len(special_tokens)} special tokens" if special_tokens else ", the bytes"
            raise ValueError(f"BPETokenizer: given vocab_size={vocab_size}, expected at least {least}{parts}")
        texts = training_texts(texts, "BPETokenizer")
        with needs_extra("text", cls.kind):
            from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
        inner = Tokenizer(models.BPE())
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        digits = pre_tokenizers.Digits(individual_digits=True)
        inner.pre_tokenizer = pre_tokenizers.Sequence([digits, words]) if split_digits else words
        if nfc:
            inner.normalizer = normalizers.NFC()
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(special_tokens),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer=trainer)
        return cls(inner, special_tokens)

    def decode(self, tokens: Iterable[int] | Tensor) -> str:
        """The text, without special tokens; bytes that do not make a character become U+FFFD.

        Raises:
            ValueError: a number that is not a token's.
        """
        return b"".join(self._bytes_of(number) for number in integers(tokens)).decode("utf-8", "replace")

    def tokens(self, numbers: Iterable[int] | Tensor) -> list[str]:
        """Each token for people to read: a space as ▁, bytes that are no character by themselves as <0xC3>."""
        return [self._readable(number) for number in integers(numbers)]

    def streaming_decoder(self) -> "ByteDecoder":
        """A `StreamingDecoder`."""
        return ByteDecoder(self._bytes_of)

    def to_json(self) -> str:
        """What `from_json` reads: the library's own format, or with special tokens an object that holds it."""
        return super().to_json() if self.special_tokens else str(self.inner.to_str(pretty=False))

    @classmethod
    def from_json(cls, text: str) -> "BPETokenizer":
        """Undo `to_json`. What another text raises is up to the library; `load_tokenizer` makes a `UserError` of it."""
        fields: Any = json.loads(text)
        if isinstance(fields, dict) and fields.get("type") == cls.kind:
            return super().from_json(text)
        with needs_extra("text", cls.kind):
            from tokenizers import Tokenizer
        return cls(Tokenizer.from_str(text))

    def _bytes_of(self, number: int) -> bytes:
        return self._bytes[self.checked(number)]

    def _readable(self, number: int) -> str:
        spelling = self._bytes_of(number)
        if number < len(self.special_tokens):
            return self.special_tokens[number]
        try:
            return spelling.decode().replace(" ", "▁")
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in spelling)


class ByteDecoder:
    """Text from tokens as they come: the bytes of an unfinished character are kept back until the rest is there."""

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that are complete now.

        Raises:
            ValueError: a number that is not a token's.
        """
        return self._utf8.decode(self._bytes_of(token))

    def finish(self) -> str:
        """What remains of an unfinished character: U+FFFD, or nothing."""
        return self._utf8.decode(b"", final=True)


def _byte_characters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself if it prints in Latin-1, else a character from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(_BYTES) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(_BYTES + n) for n, byte in enumerate(others)}
