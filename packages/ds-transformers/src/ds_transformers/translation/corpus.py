"""From options to what a translation model learns from: pairs of sentences, tokenizers, and token numbers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core.errors import CheckpointError, UserError
from ds_core.text.example_pairs import shipped_pairs
from ds_core.text.pairs import Pairs, Split, read_multi30k, read_pairs, split_by_hash
from ds_core.text.token_batches import TokenBatches
from ds_core.text.translation_tokenizer import BEGIN, END, PAD, TranslationTokenizer
from ds_core.training.callbacks import Callback
from ds_core.training.run_folder import CHECKPOINT_FILE

from ds_transformers.translation.options import TranslateOptions

SOURCE_TOKENIZER, TARGET_TOKENIZER = "tokenizer.source.json", "tokenizer.target.json"


@dataclass(frozen=True)
class Corpus:
    """Pairs of sentences in three parts, and the two tokenizers, which are one where the vocabulary is shared."""

    source: str  # where the pairs are from, in words
    digest: str  # of the pairs that training sees, and of their tokens
    parts: Split
    source_tokenizer: TranslationTokenizer
    target_tokenizer: TranslationTokenizer

    def batches(self, pairs: Pairs, max_tokens: int, device: torch.device, **options: Any) -> TokenBatches:
        """Batches of `pairs` for a `Seq2SeqTransformer`; `options` are those of `TokenBatches`.

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


def read_corpus(options: TranslateOptions) -> Corpus:
    """Read the pairs, split them, and learn the tokenizers from the training part (or read those of a run to resume).

    Raises:
        UserError: files that cannot be read or do not fit each other, an unknown language, too few pairs.
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


def source_tokens(tokenizer: TranslationTokenizer, sentences: list[str]) -> list[list[int]]:
    """What the encoder reads: the tokens of each sentence, without blanks around it, and the token of its end."""
    return [[*tokens, END] for tokens in tokenizer.encode_batch(sentence.strip() for sentence in sentences)]


def load_tokenizers(folder: Path) -> tuple[TranslationTokenizer, TranslationTokenizer]:
    """Those that a run in `folder` was trained with.

    Raises:
        UserError: one is missing or damaged.
    """
    return TranslationTokenizer.load(folder / SOURCE_TOKENIZER), TranslationTokenizer.load(folder / TARGET_TOKENIZER)


def _parts(options: TranslateOptions) -> tuple[Split, str]:
    languages = (options.source_language, options.target_language)
    if options.multi30k is not None:
        return read_multi30k(options.multi30k, *languages), f"the pairs in {options.multi30k}"
    if options.pairs is not None:
        pairs, name = read_pairs(options.pairs, header=options.header), f"the pairs of {options.pairs}"
    else:
        pairs, name = shipped_pairs(*languages), f"the shipped sentences, {languages[0]} to {languages[1]}"
    return split_by_hash(pairs, options.validation, options.test), name


def _stored_tokenizers(options: TranslateOptions) -> tuple[TranslationTokenizer, TranslationTokenizer] | None:
    folder = Path(options.out)
    # without a checkpoint the run begins anew, and the files may be of another run, which was being overwritten
    return load_tokenizers(folder) if options.resume and (folder / CHECKPOINT_FILE).exists() else None


def _learned_tokenizers(options: TranslateOptions, train: Pairs) -> tuple[TranslationTokenizer, TranslationTokenizer]:
    assert options.vocab_size is not None
    if options.share_vocabulary:
        shared = TranslationTokenizer.train([*train.source, *train.target], options.vocab_size)
        return shared, shared
    source, target = (TranslationTokenizer.train(side, options.vocab_size) for side in (train.source, train.target))
    return source, target


class SamePairs(Callback):
    """Keeps the digest of pairs and tokens in the checkpoint, so that a run is not taken up with others.

    `load_state_dict` raises `CheckpointError` where the digests differ.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def state_dict(self) -> dict[str, Any]:
        return {"sha256": self.corpus.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["sha256"] != self.corpus.digest:
            raise CheckpointError(
                f"{self.corpus.source}: these are not the pairs, or not the tokens, that the run began with"
            )
