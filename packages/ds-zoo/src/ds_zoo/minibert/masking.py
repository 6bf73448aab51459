"""Batches for BERT's two tasks: tokens to be guessed, and pairs of texts. Theory: docs/minibert/masking.md."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ds_core.data.generators import keyed_generator
from torch import Tensor

from ds_zoo.minibert.wordpiece import WordPieceTokenizer

# B = batch, T = length, N = tokens of all documents, S = sentences

SHARE, IGNORED = 0.15, -100
_AS_MASK, _AS_RANDOM = 0.8, 0.1

Inputs = tuple[Tensor, Tensor | None, Tensor | None]  # input_ids, attention_mask, token_type_ids


@dataclass(frozen=True)
class TokenDocuments:
    """Documents as tokens, one after the other.

    Attributes:
        tokens: (N,) int64, without [CLS] and [SEP].
        sentences: (S + 1,), where each sentence begins, and N.
        documents: (S,), which document a sentence belongs to.
    """

    tokens: Tensor
    sentences: Tensor
    documents: Tensor

    @classmethod
    def encode(cls, documents: Sequence[Sequence[str]], tokenizer: WordPieceTokenizer) -> "TokenDocuments":
        """Sentences without a token are left out."""
        numbered = [(number, sentence) for number, document in enumerate(documents) for sentence in document]
        pieces = tokenizer.pieces([sentence for _, sentence in numbered])
        kept = [(number, ids) for (number, _), ids in zip(numbered, pieces, strict=True) if ids]
        lengths = [0, *(len(ids) for _, ids in kept)]
        return cls(
            torch.tensor([token for _, ids in kept for token in ids], dtype=torch.int64),
            torch.tensor(lengths).cumsum(0),
            torch.tensor([number for number, _ in kept], dtype=torch.int64),
        )

    def pair_starts(self) -> Tensor:
        """The sentences that have one before them in their document."""
        return 1 + torch.nonzero(self.documents[1:] == self.documents[:-1]).squeeze(1)


def mask_tokens(
    input_ids: Tensor,
    may_mask: Tensor,
    tokenizer: WordPieceTokenizer,
    generator: torch.Generator,
    share: float = SHARE,
) -> tuple[Tensor, Tensor]:
    """Choose 15 % of the tokens of each row to be guessed, and hide them (Devlin et al., 2019, section 3.1).

    Of those chosen 80 % become [MASK], 10 % another token at random, and 10 % stay what they are.

    Args:
        input_ids: (B, T).
        may_mask: (B, T), False for [CLS], [SEP], [PAD].
        share: how many are chosen, if not 15 %.

    Returns:
        What the model sees (B, T), and the labels (B, T): what stood at the places chosen, -100 elsewhere. A row that
        has tokens to mask has at least one label.
    """
    counts = may_mask.sum(1, keepdim=True)
    chosen_counts = torch.where(counts > 0, torch.floor(share * counts + 0.5).long().clamp(min=1), 0)
    # The first places of a random order: as many in each row as it is to have
    keys = torch.rand(input_ids.shape, generator=generator).masked_fill(may_mask.logical_not(), 2.0)
    ranks = keys.argsort(1).argsort(1)
    chosen = ranks < chosen_counts
    labels = torch.where(chosen, input_ids, IGNORED)
    fate = torch.rand(input_ids.shape, generator=generator)
    others = _ordinary_tokens(tokenizer)
    drawn = others[torch.randint(len(others), input_ids.shape, generator=generator)]
    hidden = torch.where(chosen & (fate < _AS_MASK), tokenizer.mask_id, input_ids)
    return torch.where(chosen & (fate >= 1 - _AS_RANDOM), drawn, hidden), labels


class MaskedBlocks:
    """Batch number `index`: [CLS], T - 2 tokens from a random place, [SEP], some of them masked; and what they were.

    All depends on (seed, index) alone: training that stops and resumes sees the batches it would have seen.

    Args:
        documents: from which the tokens are taken; a block may reach over the ends of documents.
        tokenizer: of `documents`.
        length: T.
        batch_size: B.
        seed: any whole number, 0 or more.
        device: where the batches go.
        share: of the tokens that are masked.

    Raises:
        ValueError: there are fewer than T - 2 tokens.
    """

    def __init__(
        self,
        documents: TokenDocuments,
        tokenizer: WordPieceTokenizer,
        length: int,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str | None = None,
        share: float = SHARE,
    ) -> None:
        if length < 3 or len(documents.tokens) < length - 2:
            raise ValueError(
                f"MaskedBlocks: given {len(documents.tokens)} tokens for blocks of {length} with [CLS] and [SEP], "
                f"expected at least {max(length - 2, 1)}, and blocks of at least 3"
            )
        self.documents, self.tokenizer = documents, tokenizer
        self.length, self.batch_size, self.seed, self.device, self.share = length, batch_size, seed, device, share

    def batch(self, index: int) -> tuple[Inputs, Tensor]:
        """-> (input_ids (B, T), no mask, no token types), labels (B, T)."""
        generator = keyed_generator(self.seed, index)
        tokens, within = self.documents.tokens, torch.arange(self.length - 2)
        starts = torch.randint(len(tokens) - len(within) + 1, (self.batch_size, 1), generator=generator)
        ends = torch.tensor([self.tokenizer.cls_id, self.tokenizer.sep_id]).expand(self.batch_size, 2)
        block = torch.cat([ends[:, :1], tokens[starts + within], ends[:, 1:]], 1)
        seen, labels = mask_tokens(block, _may_mask(block, self.tokenizer), self.tokenizer, generator, self.share)
        return (seen.to(self.device), None, None), labels.to(self.device)


class SentencePairs:
    """Batch number `index`: pairs of texts with some tokens masked; what they were, and whether the texts belong
    together.

    In every second pair the second text is what follows the first (label 0), in the others it begins with a sentence of
    another document (label 1). The first text ends and the second begins at the end of a sentence; both have about half
    of the length.

    Args:
        documents, tokenizer, length, batch_size, seed, device, share: as in `MaskedBlocks`.

    Raises:
        ValueError: no document has two sentences, there is one document alone, or the length is below 7.
    """

    def __init__(
        self,
        documents: TokenDocuments,
        tokenizer: WordPieceTokenizer,
        length: int,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str | None = None,
        share: float = SHARE,
    ) -> None:
        self.starts = documents.pair_starts()
        if len(self.starts) == 0 or bool((documents.documents == documents.documents[0]).all()):
            raise ValueError("SentencePairs: expected two documents, one of them with two sentences")
        if length < 7:
            raise ValueError(f"SentencePairs: given length={length}, expected at least 7, two tokens of each text")
        self.documents, self.tokenizer = documents, tokenizer
        self.length, self.batch_size, self.seed, self.device, self.share = length, batch_size, seed, device, share
        owners = documents.documents
        first_sentence = torch.searchsorted(owners, owners)  # of each sentence's document
        after_last = torch.searchsorted(owners, owners, right=True)
        self._begins, self._ends = (documents.sentences[found].tolist() for found in (first_sentence, after_last))

    def batch(self, index: int) -> tuple[Inputs, tuple[Tensor, Tensor]]:
        """-> (input_ids, attention_mask, token_type_ids), each (B, T); labels (B, T), next_sentence_label (B,)."""
        generator = keyed_generator(self.seed, index)
        drawn = self.starts[torch.randint(len(self.starts), (self.batch_size,), generator=generator)].tolist()
        rows = [self._row(start, number % 2 == 1, generator) for number, start in enumerate(drawn)]
        input_ids = torch.full((self.batch_size, self.length), self.tokenizer.pad_id)
        token_types = torch.zeros_like(input_ids)
        for row, (first, second) in enumerate(rows):
            border, end = 2 + len(first), 3 + len(first) + len(second)
            input_ids[row, 0], input_ids[row, border - 1] = self.tokenizer.cls_id, self.tokenizer.sep_id
            input_ids[row, 1 : border - 1], input_ids[row, border : end - 1] = first, second
            input_ids[row, end - 1] = self.tokenizer.sep_id
            token_types[row, border:end] = 1
        visible = torch.ne(input_ids, self.tokenizer.pad_id).long()
        may_mask = _may_mask(input_ids, self.tokenizer)
        seen, labels = mask_tokens(input_ids, may_mask, self.tokenizer, generator, self.share)
        unrelated = torch.arange(self.batch_size) % 2
        inputs = (seen.to(self.device), visible.to(self.device), token_types.to(self.device))
        return inputs, (labels.to(self.device), unrelated.to(self.device))

    def _row(self, start: int, unrelated: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The texts before and from sentence `start`, or from one of another document."""
        tokens, sentences, owners = self.documents.tokens, self.documents.sentences, self.documents.documents
        room = self.length - 3
        border = int(sentences[start])
        first = tokens[max(self._begins[start], border - room // 2) : border]
        second = start
        while unrelated and owners[second] == owners[start]:
            second = int(torch.randint(len(owners), (1,), generator=generator))
        begin = int(sentences[second])
        return first, tokens[begin : min(self._ends[second], begin + room - len(first))]


def _may_mask(input_ids: Tensor, tokenizer: WordPieceTokenizer) -> Tensor:
    special = torch.tensor([number for number in tokenizer.special_ids if number != tokenizer.unknown_id])
    return (input_ids[..., None] == special).any(-1).logical_not()


def _ordinary_tokens(tokenizer: WordPieceTokenizer) -> Tensor:
    """The numbers of all tokens but the special ones."""
    kept = torch.ones(tokenizer.vocab_size, dtype=torch.bool)
    kept[list(tokenizer.special_ids)] = False
    return torch.nonzero(kept).squeeze(1)
