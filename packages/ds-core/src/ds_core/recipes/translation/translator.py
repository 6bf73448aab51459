"""Sentences in, sentences out: a trained model with its tokenizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ds_core.recipes.translation.corpus import source_tokens
from ds_core.text.decoding.beam_search import beam_search
from ds_core.text.decoding.greedy import greedy
from ds_core.text.tokenizers import BEGIN, END, PAD, SentenceTokenizer

# Vaswani et al., 2017, section 6.1: a translation may have 50 tokens more than its source.
_MORE_TOKENS = 50


@dataclass(frozen=True)
class Translator:
    """A model and its tokenizers.

    Args:
        model: a module and a `StepwiseDecoder`; its source ends with `END`, its target begins with `BEGIN`.
        source_tokenizer, target_tokenizer: what its token numbers mean.
    """

    model: Any
    source_tokenizer: SentenceTokenizer
    target_tokenizer: SentenceTokenizer

    def translate(
        self,
        sentences: Sequence[str],
        *,
        beam_size: int = 4,
        length_penalty: float = 0.6,
        max_length: int | None = None,
        batch_size: int = 64,
    ) -> list[str]:
        """Each sentence in the other language, in the order given; sentences of similar length are batched together.

        Args:
            beam_size: 1 takes the likeliest token each time.
            length_penalty: see `beam_search`.
            max_length: the most tokens of a translation; default 50 more than its source has.
            batch_size: sentences at a time.
        """
        tokens = source_tokens(self.source_tokenizer, sentences)
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        found: list[list[int]] = [[]] * len(tokens)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            source = self.padded([tokens[index] for index in batch])
            limits = torch.tensor([len(tokens[index]) + _MORE_TOKENS for index in batch])
            limit = limits if max_length is None else max_length
            options: dict[str, Any] = {"begin": BEGIN, "end": END, "pad": PAD, "max_length": limit}
            if beam_size == 1:
                results = greedy(self.model, source, **options)
            else:
                hypotheses = beam_search(
                    self.model, source, beam_size=beam_size, length_penalty=length_penalty, **options
                )
                results = [hypothesis.tokens for hypothesis in hypotheses]
            for index, result in zip(batch, results, strict=True):
                found[index] = result
        return [self.target_tokenizer.decode(result) for result in found]

    def padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of tokens as one tensor (B, T) on the model's device, filled up with `PAD`."""
        width = max(map(len, rows), default=0)
        filled = [[*row, *[PAD] * (width - len(row))] for row in rows]
        device = next(iter(self.model.parameters())).device
        return torch.tensor(filled, dtype=torch.int64, device=device).reshape(len(rows), width)
