"""Captions as rows of token numbers, by the library `tokenizers`, and its files. Theory: docs/miniclip/recipe.md."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ds_core import CheckpointError, UserError
from ds_core.atomic_files import write_atomically
from ds_core.errors import needs_extra, one_line
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.library_tokenizer import encodable
from ds_core.text.words import WordTokenizer
from torch import Tensor

from ds_zoo.miniclip.config import TextConfig

if TYPE_CHECKING:
    import tokenizers

# N = captions, T = max_length

TOKENIZER_FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
VOCABULARIES = ("words", "bpe")
_REMEMBERED = 2**15  # captions, which come again and again
_BEGIN, _END, _UNKNOWN = "<begin>", "<end>", "<unknown>"


class CaptionTokenizer:
    """Each caption becomes begin, its tokens, end, and then end tokens up to T, as for CLIP.

    Args:
        inner: the library's tokenizer, which puts begin and end around a text.
        max_length: T, begin and end included.

    Attributes:
        begin_token, end_token: their numbers.
        vocab_size: how many tokens there are.

    Raises:
        UserError: `inner` puts nothing around a text.
    """

    def __init__(self, inner: "tokenizers.Tokenizer", max_length: int) -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True  # a caption that reads "<end>" is a text
        self.inner = inner
        self.max_length = max_length
        around = inner.encode("").ids
        if len(around) < 2 or inner.encode("", add_special_tokens=False).ids == around:
            raise UserError(f"the tokenizer is not CLIP's: it puts no begin and end around a text, but {around}")
        self.begin_token, self.end_token = around[0], around[-1]
        self.vocab_size = int(inner.get_vocab_size())
        self._numbers_of = lru_cache(_REMEMBERED)(lambda caption: inner.encode(caption).ids)

    @classmethod
    def train(
        cls, captions: Iterable[str], max_length: int, *, vocabulary: str = "words", vocab_size: int = 50_000
    ) -> "CaptionTokenizer":
        """Learn the words of captions, or with "bpe" frequent parts of words, so that any text can be encoded.

        Begin and end are the last two numbers: then both of CLIP's rules take the end token, see `end_positions`.

        Args:
            vocab_size: how many tokens at most, begin and end included.

        Raises:
            ValueError: another vocabulary, or a `vocab_size` that is too small.
            MissingPackageError: the library `tokenizers` is not installed.
        """
        if vocabulary not in VOCABULARIES:
            raise ValueError(f"CaptionTokenizer: given vocabulary={vocabulary!r}, expected one of {VOCABULARIES}")
        learn = WordTokenizer.train if vocabulary == "words" else BPETokenizer.train
        inner = learn(list(captions), vocab_size - 2).inner
        with needs_extra("text", "a tokenizer of captions"):
            from tokenizers import AddedToken, processors
        inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (_BEGIN, _END)])
        numbers = [(name, inner.token_to_id(name)) for name in (_BEGIN, _END)]
        inner.post_processor = processors.TemplateProcessing(single=f"{_BEGIN} $A {_END}", special_tokens=numbers)
        return cls(inner, max_length)

    @classmethod
    def from_pretrained(cls, folder: str | Path, text: TextConfig) -> "CaptionTokenizer":
        """Read tokenizer.json of a folder whose model has this text tower.

        Raises:
            CheckpointError: it is missing or damaged, or does not fit the model.
            MissingPackageError: the library `tokenizers` is not installed.
        """
        path = Path(folder) / TOKENIZER_FILE
        with needs_extra("text", "a tokenizer of captions"):
            from tokenizers import Tokenizer
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or one_line(error)
            raise CheckpointError(f"cannot read {path}: {why}; transformers' save_pretrained writes one") from error
        try:
            tokenizer = cls(Tokenizer.from_str(content), text.max_length)
        except UserError as error:
            raise CheckpointError(f"{path}: {error}") from error
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(f"{path} is not a tokenizer: {one_line(error)}") from error
        tokenizer.check_fits(text, path)
        return tokenizer

    def check_fits(self, text: TextConfig, source: str | Path) -> None:
        """Refuse a text tower with another vocabulary, or with another end token; `source` is where they come from.

        Raises:
            CheckpointError: they do not fit.
        """
        largest = max(self.inner.get_vocab().values())
        if largest >= text.vocab_size:
            raise CheckpointError(
                f"{source}: the tokenizer has tokens up to {largest}, but the model knows {text.vocab_size}: they do "
                "not belong together"
            )
        end = largest if text.end_token == 2 else text.end_token
        if self.end_token != end:
            raise CheckpointError(
                f"{source}: the tokenizer ends a text with token {self.end_token}, but the model looks for {end} "
                "(eos_token_id in config.json): they do not belong together"
            )

    def encode(self, captions: Sequence[str], sources: Sequence[str] | None = None) -> Tensor:
        """-> (N, T) int64. `sources` say in error messages where each caption stands.

        Raises:
            UserError: a caption is empty or too long; it is not cut, since what is cut off would be lost unseen.
        """
        rows = torch.full((len(captions), self.max_length), self.end_token, dtype=torch.int64)
        for number, caption in enumerate(captions):
            source = f"caption {number + 1} of {len(captions)}" if sources is None else sources[number]
            if not caption.strip():
                raise UserError(f"{source} is empty: expected at least a word")
            ids = self._numbers_of(encodable(caption, source))
            if len(ids) > self.max_length:
                raise UserError(
                    f"{source} has {len(ids)} tokens, begin and end included, but the model reads at most "
                    f"{self.max_length}: {caption[:40]!r}..."
                )
            rows[number, : len(ids)] = torch.tensor(ids)
        return rows

    def length_of(self, caption: str) -> int:
        """How many tokens a caption has, begin and end included."""
        return len(self.inner.encode(encodable(caption, "a caption")).ids)

    def unknown_words(self, caption: str) -> list[str]:
        """The words of a caption, each once, that the tokenizer does not know; all of them stand for the same token."""
        unknown = self.inner.token_to_id(_UNKNOWN)
        found = self.inner.encode(encodable(caption, "a caption"), add_special_tokens=False)
        words = (
            caption[first:last].strip()
            for number, (first, last) in zip(found.ids, found.offsets, strict=True)
            if number == unknown
        )
        return list(dict.fromkeys(words))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which transformers' AutoTokenizer reads.

        Raises:
            WriteError: they cannot be written.
        """
        name_of = self.inner.id_to_token
        end = name_of(self.end_token)
        fields: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name_of(self.begin_token),
            "eos_token": end,
            "pad_token": end,
            "model_max_length": self.max_length,
        }
        write_atomically(Path(folder) / TOKENIZER_FILE, self.inner.to_str(pretty=False))
        write_atomically(Path(folder) / CONFIG_FILE, json.dumps(fields, indent=2) + "\n")

    def __repr__(self) -> str:
        return f"CaptionTokenizer({self.vocab_size} tokens, at most {self.max_length} a caption)"
