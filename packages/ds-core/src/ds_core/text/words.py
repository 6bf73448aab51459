"""One token for each word, learned and applied by the library `tokenizers`. Theory: docs/tokenizers.md."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ds_core.errors import needs_extra
from ds_core.text.library_tokenizer import LibraryTokenizer, encodable, integers, training_texts

if TYPE_CHECKING:
    import tokenizers

_UNKNOWN = "<unknown>"  # no word is spelled like this: angle brackets are tokens of their own
_UNKNOWN_TEXT = " ⁇"  # SentencePiece writes it so as well

# 's, 't and so on are tokens of their own, as in GPT-2; any other apostrophe ends its word: l' homme, and l' ⁇
_APOSTROPHE = "['\u2019]"
_SHORT = f"{_APOSTROPHE}(?:s|t|re|ve|m|ll|d)\\b"
_LETTERS = f"[\\p{{L}}\\p{{M}}]+(?:(?!{_SHORT}){_APOSTROPHE}(?=\\p{{L}}|{_UNKNOWN_TEXT}))?"


class WordTokenizer(LibraryTokenizer):
    """Words and punctuation marks, each with the space before it, if there is one.

    Special tokens, if there are any, have the numbers from 0 on. No text is ever encoded to one of them, and they are
    decoded to nothing. After them come `<unknown>`, to which every word is encoded that is not in the vocabulary, and
    then the words, the most frequent ones first. An unknown word is decoded to ⁇ after a space.

    Args:
        inner: the library's tokenizer. It knows nothing of the special tokens, so its numbers are less by them.
        special_tokens: their names.

    Raises:
        ValueError: `inner` has no token for unknown words.
        MissingPackageError: from `train` and `from_json`: the library `tokenizers` is not installed.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, inner: "tokenizers.Tokenizer", special_tokens: Sequence[str] = ()) -> None:
        super().__init__(inner, special_tokens)
        if inner.token_to_id(_UNKNOWN) != 0:
            raise ValueError(f"WordTokenizer: expected {_UNKNOWN} as the first token of the vocabulary")
        spelling = {number: word for word, number in inner.get_vocab().items()}
        self._words = [*[""] * len(self.special_tokens), *(spelling[number] for number in range(len(spelling)))]
        self._words[self.unknown] = _UNKNOWN_TEXT

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        min_frequency: int = 1,
        special_tokens: Sequence[str] = (),
        split_digits: bool = False,
        nfc: bool = False,
    ) -> "WordTokenizer":
        """Count the words and keep the most frequent ones; of equally frequent ones the first in the alphabet.

        Args:
            texts: one text, or several.
            vocab_size: how many tokens at most, `<unknown>` and the special ones included.
            min_frequency: how often a word must occur. With 1 a model never sees `<unknown>` while it learns (unless
                `vocab_size` cuts words off), and so does not learn what to do about it.
            special_tokens: names of tokens that stand for no text, such as padding.
            split_digits: make each digit a token by itself, so that numbers are copied digit by digit.
            nfc: bring every text to Unicode's form NFC, here and in `encode`: é is then one character, however typed.

        Raises:
            ValueError: `vocab_size` leaves no room for a word; `min_frequency` is below 1, or no word occurs as often;
                no text has a character.
            UserError: a text has no UTF-8 form.
        """
        least = len(special_tokens) + 2
        if vocab_size < least:
            raise ValueError(
                f"WordTokenizer: given vocab_size={vocab_size}, expected at least {least}: {len(special_tokens)} "
                f"special token(s), {_UNKNOWN} and a word"
            )
        if min_frequency < 1:
            raise ValueError(f"WordTokenizer: given min_frequency={min_frequency}, expected at least 1")
        texts = training_texts(texts, "WordTokenizer")
        with needs_extra("text", "a tokenizer of words"):
            from tokenizers import models, trainers
        inner = _without_vocabulary(split_digits, nfc)
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size - len(special_tokens) - 1, min_frequency=min_frequency, show_progress=False
        )
        inner.train_from_iterator(texts, trainer=trainer)
        found = inner.get_vocab()
        if not found:
            raise ValueError(
                f"WordTokenizer: no word of {len(texts):,} text(s) occurs as often as min_frequency={min_frequency}, "
                "so the vocabulary is empty: give less"
            )
        # not a special token of the library, which would find it in texts
        vocabulary = {_UNKNOWN: 0, **{word: index + 1 for word, index in found.items()}}
        inner.model = models.WordLevel(vocabulary, unk_token=_UNKNOWN)
        return cls(inner, special_tokens)

    @property
    def unknown(self) -> int:
        """The number of `<unknown>`."""
        return len(self.special_tokens)

    def decode(self, tokens: Iterable[int] | Tensor) -> str:
        """The text, without special tokens; ⁇ is an unknown word.

        Raises:
            ValueError: a number that is not a token's.
        """
        decoder = self.streaming_decoder()
        return "".join(decoder.push(number) for number in integers(tokens))

    def tokens(self, numbers: Iterable[int] | Tensor) -> list[str]:
        """Each token for people to read: a space as ▁, an unknown word as <unknown>."""
        return [self._readable(number) for number in integers(numbers)]

    def spelled(self, text: str, source: str = "the text") -> list[tuple[str, bool]]:
        """Each word of the text as it is written there, and whether it is in the vocabulary.

        Raises:
            UserError: as `encode`.
        """
        found = self.inner.encode(encodable(text, source), add_special_tokens=False)
        words = (text[first:end].strip() for first, end in found.offsets)
        return [(word, number != 0) for word, number in zip(words, found.ids, strict=True)]

    def streaming_decoder(self) -> "WordDecoder":
        """A `StreamingDecoder`."""
        return WordDecoder(self._word)

    def _word(self, number: int) -> str:
        return self._words[self.checked(number)]

    def _readable(self, number: int) -> str:
        word = self._word(number)
        names = [*self.special_tokens, _UNKNOWN]
        return names[number] if number < len(names) else word.replace(" ", "▁")


class WordDecoder:
    """Text from tokens as they come; the first word is written without the space before it."""

    def __init__(self, word_of: Callable[[int], str]) -> None:
        self._word_of = word_of
        self._begun = False

    def push(self, token: int) -> str:
        """The token's word, with the space before it.

        Raises:
            ValueError: a number that is not a token's.
        """
        word = self._word_of(token)
        written = word if self._begun else word.removeprefix(" ")
        self._begun = self._begun or bool(word)
        return written

    def finish(self) -> str:
        """Nothing: no word is ever unfinished."""
        return ""


def _without_vocabulary(split_digits: bool, nfc: bool) -> "tokenizers.Tokenizer":
    """The library's tokenizer, which knows what a word is, but no words."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    inner = Tokenizer(models.WordLevel(unk_token=_UNKNOWN))
    spaces = [normalizers.Replace(Regex("\\s+(?=\\s)"), ""), normalizers.Strip()]
    # with a space before the first word too, it is the same token as anywhere else
    unicode = [normalizers.NFC()] if nfc else []
    inner.normalizer = normalizers.Sequence([*unicode, *spaces, normalizers.Prepend(" ")])
    number = "\\p{N}" if split_digits else "\\p{N}+"
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(f"\\s?(?:{number}|{_LETTERS}|{_SHORT}|\\S)"), "isolated")
    return inner
