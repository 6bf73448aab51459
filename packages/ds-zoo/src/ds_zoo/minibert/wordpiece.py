"""WordPiece, BERT's tokenizer, by the library `tokenizers`, and its files. Theory: docs/minibert/wordpiece.md."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ds_core import CheckpointError, UserError
from ds_core.atomic_files import write_atomically
from ds_core.errors import needs_extra, one_line
from ds_core.text.library_tokenizer import encodable, integers, training_texts
from torch import Tensor

if TYPE_CHECKING:
    import tokenizers

# B = batch, T = tokens of the longest text

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENIZER_FILE, CONFIG_FILE, VOCABULARY_FILE = "tokenizer.json", "tokenizer_config.json", "vocab.txt"
_ROLES = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL_TOKENS, strict=True))


class WordPieceTokenizer:
    """Words cut into the longest pieces of a vocabulary (Schuster and Nakajima, 2012; Wu et al., 2016).

    A piece within a word begins with "##". A text becomes [CLS] pieces [SEP], a pair [CLS] pieces [SEP] pieces [SEP].
    "[MASK]" in a text is the token of that name.

    Args:
        inner: the library's tokenizer.

    Attributes:
        pad_id, unknown_id, cls_id, sep_id, mask_id: the numbers of the special tokens.
        special_ids: all five of them.

    Raises:
        UserError: it lacks one of the special tokens.
    """

    def __init__(self, inner: "tokenizers.Tokenizer") -> None:
        known = {name: inner.token_to_id(name) for name in SPECIAL_TOKENS}
        lacking = [name for name, number in known.items() if number is None]
        if lacking:
            raise UserError(f"the tokenizer is not BERT's: it lacks {', '.join(lacking)}")
        self.inner = inner
        self.special_ids = tuple(number for number in known.values() if number is not None)
        self.pad_id, self.unknown_id, self.cls_id, self.sep_id, self.mask_id = self.special_ids
        self.vocab_size = int(inner.get_vocab_size())
        inner.no_padding()
        inner.no_truncation()

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, *, lowercase: bool = True) -> "WordPieceTokenizer":
        """Merge pieces until there are `vocab_size`, or nothing is left to merge.

        Args:
            texts: one text, or several.
            vocab_size: how many tokens, the five special ones and the characters of the texts included.
            lowercase: whether all is lowercase and without accents, here and in `encode`.

        Raises:
            ValueError: no text has a character, or the characters alone are more than `vocab_size`.
            UserError: a text has no UTF-8 form.
            MissingPackageError: the library `tokenizers` is not installed.
        """
        texts = training_texts(texts, "WordPieceTokenizer")
        with needs_extra("text", "WordPiece"):
            from tokenizers import trainers
        inner = _new_tokenizer({}, lowercase)
        # The trainer would number pieces within words as it meets them, in another order in every process
        first = [*SPECIAL_TOKENS, *_characters(inner, texts)]
        trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
        inner.train_from_iterator(texts, trainer=trainer)
        if inner.get_vocab_size() > vocab_size:
            raise ValueError(
                f"WordPieceTokenizer: given vocab_size={vocab_size}, but the characters of the texts, at the beginning "
                f"of words and within them, and the special tokens are {inner.get_vocab_size()} already"
            )
        vocabulary = inner.get_vocab()
        return cls(_new_tokenizer(dict(sorted(vocabulary.items(), key=lambda item: item[1])), lowercase))

    def pieces(self, texts: Iterable[str], source: str = "a text") -> list[list[int]]:
        """The tokens of each text without [CLS] and [SEP]. `source` names a text in error messages.

        Raises:
            UserError: a text has no UTF-8 form.
        """
        found = self.inner.encode_batch([encodable(text, source) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def encode(self, text: str, pair: str | None = None, source: str = "the text") -> list[int]:
        """The tokens of a text, or of a pair, with [CLS] and [SEP].

        Raises:
            UserError: a text has no UTF-8 form.
        """
        second = None if pair is None else encodable(pair, source)
        ids: list[int] = self.inner.encode(encodable(text, source), second).ids
        return ids

    def batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, max_length: int | None = None
    ) -> dict[str, Tensor]:
        """What BERT is called with for several texts, or pairs: each filled up with [PAD] on the right.

        Returns:
            input_ids, attention_mask (0 for [PAD]) and token_type_ids (1 for the second text), all (B, T) int64.

        Raises:
            ValueError: there is no text, or not as many second ones as first ones.
            UserError: a text is empty, or has more than `max_length` tokens.
        """
        if not texts or (pairs is not None and len(pairs) != len(texts)):
            others = "" if pairs is None else f" and {len(pairs)} second ones"
            raise ValueError(
                f"WordPieceTokenizer: given {len(texts)} texts{others}, expected some, and as many of both"
            )
        rows = []
        for number, text in enumerate(texts):
            second = None if pairs is None else encodable(pairs[number], "a text")
            if not text.strip() or (second is not None and not second.strip()):
                raise UserError(f"text {number + 1} of {len(texts)} is empty: expected at least a word")
            encoding = self.inner.encode(encodable(text, "a text"), second)
            if max_length is not None and len(encoding.ids) > max_length:
                raise UserError(
                    f"text {number + 1} of {len(texts)} has {len(encoding.ids)} tokens, [CLS] and [SEP] included, but "
                    f"the model reads at most {max_length}: {text[:40]!r} ..."
                )
            rows.append(encoding)
        longest = max(len(encoding.ids) for encoding in rows)
        filled = {
            "input_ids": [encoding.ids + [self.pad_id] * (longest - len(encoding.ids)) for encoding in rows],
            "attention_mask": [[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in rows],
            "token_type_ids": [row.type_ids + [0] * (longest - len(row.ids)) for row in rows],
        }
        return {name: torch.tensor(numbers, dtype=torch.int64) for name, numbers in filled.items()}

    def decode(self, tokens: Iterable[int] | Tensor) -> str:
        """The text, pieces joined to words, without special tokens other than [MASK] and [UNK].

        Raises:
            ValueError: a number that is not a token's.
        """
        left_out = {self.pad_id, self.cls_id, self.sep_id}
        names = [self.token(number) for number in integers(tokens) if number not in left_out]
        text: str = self.inner.decoder.decode(names)
        return text

    def token(self, number: int) -> str:
        """A token as it stands in the vocabulary.

        Raises:
            ValueError: a number that is not a token's.
        """
        name: str | None = self.inner.id_to_token(number)
        if name is None:
            raise ValueError(f"WordPieceTokenizer: given token {number}, expected 0 to {self.vocab_size - 1}")
        return name

    def save(self, folder: str | Path, max_length: int | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, which transformers reads.

        Args:
            max_length: the most tokens that the model reads.

        Raises:
            WriteError: they cannot be written.
        """
        fields: dict[str, Any] = {"tokenizer_class": "BertTokenizer", "do_lower_case": self.lowercase, **_ROLES}
        if max_length is not None:
            fields["model_max_length"] = max_length
        write_atomically(Path(folder) / TOKENIZER_FILE, self.inner.to_str(pretty=False))
        write_atomically(Path(folder) / CONFIG_FILE, json.dumps(fields, indent=2) + "\n")

    @property
    def lowercase(self) -> bool:
        """Whether upper and lower case are the same to it."""
        normaliser = self.inner.normalizer
        return normaliser is not None and normaliser.normalize_str("A") == "a"

    def token_ids(self, text: str) -> list[int]:
        """The tokens of one text without [CLS] and [SEP]."""
        return self.pieces([text])[0]

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "WordPieceTokenizer":
        """Read the tokenizer of a published BERT: tokenizer.json, or else vocab.txt, a token a line.

        Raises:
            UserError: there is none, or it is damaged or not BERT's.
            MissingPackageError: the library `tokenizers` is not installed.
        """
        folder = Path(folder)
        with needs_extra("text", "WordPiece"):
            from tokenizers import Tokenizer
        path = folder / TOKENIZER_FILE
        if path.exists():
            try:
                return cls(Tokenizer.from_str(path.read_text(encoding="utf-8")))
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
            except Exception as error:  # the library raises plain Exception
                raise UserError(f"{path} is not a tokenizer: {one_line(error)}") from error
        return cls._read_vocabulary(folder)

    @classmethod
    def from_vocabulary(cls, names: Sequence[str], *, lowercase: bool = True) -> "WordPieceTokenizer":
        """The tokenizer with these tokens, each numbered by its position; pieces within words begin with "##".

        Raises:
            UserError: a special token is not among them.
            MissingPackageError: the library `tokenizers` is not installed.
        """
        lacking = [name for name in SPECIAL_TOKENS if name not in names]
        if lacking:
            raise UserError(f"the tokenizer is not BERT's: it lacks {', '.join(lacking)}")
        return cls(_new_tokenizer({name: number for number, name in enumerate(names)}, lowercase))

    @classmethod
    def _read_vocabulary(cls, folder: Path) -> "WordPieceTokenizer":
        path = folder / VOCABULARY_FILE
        try:
            names = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{folder} has no tokenizer of BERT's: neither {TOKENIZER_FILE} nor {VOCABULARY_FILE} can be read"
            ) from error
        if len(set(names)) < len(names):
            raise UserError(f"{path} is damaged: {len(names)} lines, but {len(set(names))} different tokens")
        try:
            settings = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            lowercase = bool(settings.get("do_lower_case", True))
        except FileNotFoundError:
            lowercase = True
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"{folder / CONFIG_FILE} is damaged: {one_line(error)}") from error
        try:
            return cls.from_vocabulary(names, lowercase=lowercase)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def __repr__(self) -> str:
        return f"WordPieceTokenizer({self.vocab_size} tokens)"


def check_fits(tokenizer: WordPieceTokenizer, vocab_size: int, source: str | Path) -> None:
    """Refuse a tokenizer beside a model of another vocabulary; `source` is where they come from.

    A model may have some rows more than there are tokens, if they fill its vocabulary up to a multiple of 8.

    Raises:
        CheckpointError: they do not fit.
    """
    spare = vocab_size - tokenizer.vocab_size
    if spare != 0 and not (0 < spare < 128 and vocab_size % 8 == 0):
        raise CheckpointError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, but the model knows {vocab_size}: they do not "
            "belong together"
        )


def _new_tokenizer(vocabulary: dict[str, int], lowercase: bool) -> "tokenizers.Tokenizer":
    """BERT's pipeline: clean up, split at spaces and punctuation, cut words into pieces, add [CLS] and [SEP]."""
    with needs_extra("text", "WordPiece"):
        from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    model = models.WordPiece(vocabulary, unk_token=UNKNOWN) if vocabulary else models.WordPiece(unk_token=UNKNOWN)
    inner = Tokenizer(model)
    inner.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##")
    if vocabulary:
        inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
        ends = [(name, vocabulary[name]) for name in (SEP, CLS)]
        inner.post_processor = processors.BertProcessing(*ends)
    return inner


def _characters(inner: "tokenizers.Tokenizer", texts: Sequence[str]) -> list[str]:
    """The characters that words begin with, and those within words, with "##"; each sorted."""
    begins, within = set(), set()
    for text in texts:
        for word, _ in inner.pre_tokenizer.pre_tokenize_str(inner.normalizer.normalize_str(text)):
            begins.add(word[0])
            within.update(word[1:])
    return [*sorted(begins), *sorted(f"##{character}" for character in within)]
