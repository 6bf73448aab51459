"""From options to what a translation model learns from: pairs of sentences, tokenizers, and token numbers."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ds_core.errors import UserError
from ds_core.recipes.translation.options import TranslationOptions
from ds_core.text.byte_pair import BPETokenizer
from ds_core.text.characters import CharacterTokenizer
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.pairs import Pairs, Split, read_multi30k, read_pairs, split_by_hash
from ds_core.text.token_batches import TokenBatches
from ds_core.text.tokenizers import BEGIN, END, PAD, SPECIAL_TOKENS, SentenceTokenizer, load_tokenizer
from ds_core.text.words import WordTokenizer
from ds_core.training.run_folder import CHECKPOINT_FILE

SOURCE_TOKENIZER, TARGET_TOKENIZER = "tokenizer.source.json", "tokenizer.target.json"
Tokenizers = tuple[SentenceTokenizer, SentenceTokenizer]  # of source and target


@dataclass(frozen=True)
class Corpus:
    """Pairs of sentences in three parts, and two tokenizers, which are one if the vocabulary is shared."""

    source: str  # where the pairs come from, in words
    digest: str  # of the pairs that training sees, and of their tokens
    parts: Split
    source_tokenizer: SentenceTokenizer
    target_tokenizer: SentenceTokenizer

    def batches(self, pairs: Pairs, max_tokens: int, device: torch.device, **options: Any) -> TokenBatches:
        """Batches of `pairs` for a model; `options` are those of `TokenBatches`.

        Raises:
            UserError: a sentence has more tokens than a batch may have, or a batch fewer rows than there are processes.
        """
        source = source_tokens(self.source_tokenizer, pairs.source)
        target = self.target_tokenizer.encode_batch(pairs.target)
        longest = max(max(map(len, source)), 1 + max(map(len, target)))
        if longest > max_tokens:
            raise UserError(f"--max-tokens {max_tokens}: {self.source} has a sentence of {longest} tokens: give more")
        try:
            return TokenBatches(source, target, max_tokens, pad=PAD, begin=BEGIN, end=END, device=device, **options)
        except ValueError as error:  # a batch that cannot be divided among the processes
            raise UserError(f"--max-tokens {max_tokens}: {error}") from error


def read_corpus(options: TranslationOptions) -> Corpus:
    """Read the pairs, split them, and learn the tokenizers from the training part, or read those of a run to resume.

    Raises:
        UserError: the files cannot be read or do not fit each other, a language is unknown, there are too few pairs, no
            word occurs as often as asked for.
        MissingPackageError: what text needs is not installed.
    """
    parts, name = _parts(options)
    tokenizers = _stored_tokenizers(options) or _learned_tokenizers(options, parts.train)
    digest = hashlib.sha256()
    for part in (parts.train, parts.validation):
        for sentence in (*part.source, *part.target):
            digest.update(sentence.encode() + b"\n")
    for tokenizer, sentences in zip(tokenizers, (parts.validation.source, parts.validation.target), strict=True):
        digest.update(repr(tokenizer.encode_batch(sentences)).encode())
    return Corpus(name, digest.hexdigest(), parts, *tokenizers)


def source_tokens(tokenizer: SentenceTokenizer, sentences: Iterable[str]) -> list[list[int]]:
    """What the encoder reads: the tokens of each sentence, without blanks around it, and the token of its end."""
    stripped = (sentence.strip() for sentence in sentences)
    return [[*tokens, END] for tokens in tokenizer.encode_batch(stripped, "a sentence")]


def load_tokenizers(folder: Path) -> Tokenizers:
    """The tokenizers of the run in `folder`.

    Raises:
        UserError: a file is missing or damaged, or is a tokenizer of another kind.
    """
    return _load(folder / SOURCE_TOKENIZER), _load(folder / TARGET_TOKENIZER)


def _load(path: Path) -> SentenceTokenizer:
    tokenizer = load_tokenizer(path)
    if isinstance(tokenizer, CharacterTokenizer) or tokenizer.special_tokens != SPECIAL_TOKENS:
        raise UserError(f"{path} is a tokenizer, but not of a translation: expected special tokens {SPECIAL_TOKENS}")
    return tokenizer


def _parts(options: TranslationOptions) -> tuple[Split, str]:
    languages = (options.source_language, options.target_language)
    if options.multi30k is not None:
        return read_multi30k(options.multi30k, *languages), f"the pairs in {options.multi30k}"
    if options.pairs is not None:
        pairs, name = read_pairs(options.pairs, header=options.header), f"the pairs of {options.pairs}"
    else:
        pairs, name = shipped_pairs(*languages), f"the shipped sentences, {languages[0]} to {languages[1]}"
    return split_by_hash(pairs, options.validation, options.test), name


def _stored_tokenizers(options: TranslationOptions) -> Tokenizers | None:
    # Without a checkpoint the run starts anew, and the files may be left from another run that was being overwritten.
    stored = options.resume and (options.out / CHECKPOINT_FILE).exists()
    return load_tokenizers(options.out) if stored else None


def _learned_tokenizers(options: TranslationOptions, train: Pairs) -> Tokenizers:
    given: dict[str, Any] = {"special_tokens": SPECIAL_TOKENS, "split_digits": True, "nfc": True}

    def learn(texts: list[str]) -> SentenceTokenizer:
        if options.vocabulary == "bpe":
            return BPETokenizer.train(texts, options.vocab_size, **given)
        try:
            return WordTokenizer.train(texts, options.vocab_size, min_frequency=options.min_frequency, **given)
        except ValueError as error:  # no word is as frequent
            raise UserError(
                f"--min-frequency {options.min_frequency}: no word of the {len(texts):,} training sentences occurs as "
                "often, so the vocabulary would be empty: give less"
            ) from error

    if options.share_vocabulary:
        shared = learn([*train.source, *train.target])
        return shared, shared
    return learn(train.source), learn(train.target)
