"""How well a model guesses what was masked, and what the baseline guesses of it. Theory: docs/minibert/masking.md."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ds_zoo.minibert.baseline import BigramGuess
from ds_zoo.minibert.masking import IGNORED


@dataclass
class MaskedScores:
    """Sums over batches of masked tokens; `add` takes a batch, the properties are means."""

    tokens: int = 0
    right: int = 0
    loss_sum: float = 0.0
    baseline_right: int = 0
    pairs: int = 0
    pairs_right: int = 0
    pair_loss_sum: float = 0.0

    @property
    def loss(self) -> float:
        """The mean cross-entropy of the masked tokens, in nats."""
        return self.loss_sum / max(self.tokens, 1)

    @property
    def accuracy(self) -> float:
        """The share of the masked tokens whose likeliest guess is right."""
        return self.right / max(self.tokens, 1)

    @property
    def perplexity(self) -> float:
        """exp(loss): among how many equally likely tokens the model might as well be choosing."""
        return math.exp(min(self.loss, 700.0))

    @property
    def baseline_accuracy(self) -> float:
        """The share that `BigramGuess` guesses right."""
        return self.baseline_right / max(self.tokens, 1)

    @property
    def pair_accuracy(self) -> float:
        """The share of pairs of which it is rightly said whether the second text follows the first."""
        return self.pairs_right / max(self.pairs, 1)

    @property
    def pair_loss(self) -> float:
        """The mean cross-entropy of that, in nats."""
        return self.pair_loss_sum / max(self.pairs, 1)


def score_masked(model: Any, batches: Iterable[tuple[Any, Any]], baseline: BigramGuess | None = None) -> MaskedScores:
    """Scores of a `MiniBERTForMaskedLM` or `MiniBERTForPreTraining`, in evaluation mode, over batches of `masking`."""
    scores = MaskedScores()
    for inputs, target in batches:
        labels, related = target if isinstance(target, tuple) else (target, None)
        output = model(*inputs)
        logits = output.logits if related is None else output.prediction_logits
        chosen = labels != IGNORED
        scores.tokens += int(chosen.sum())
        scores.right += int(((logits.argmax(-1) == labels) & chosen).sum())
        criterion = model.criterion()
        loss = float(criterion(output, target))
        if related is not None:
            loss = float(criterion.terms["masked_lm_loss"])
            scores.pairs += len(related)
            scores.pairs_right += int((output.seq_relationship_logits.argmax(-1) == related).sum())
            scores.pair_loss_sum += float(criterion.terms["next_sentence_loss"]) * len(related)
        scores.loss_sum += loss * int(chosen.sum())
        if baseline is not None:
            scores.baseline_right += _right(baseline, inputs[0].cpu(), labels.cpu())
    return scores


def _right(baseline: BigramGuess, seen: Tensor, labels: Tensor) -> int:
    chosen = labels != IGNORED
    guesses = baseline(torch.where(chosen, labels, seen))
    return int(((guesses == labels) & chosen).sum())
