"""How good translations are: exact matches, BLEU and chrF by sacrebleu, perplexity."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ds_core.errors import needs_extra
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.metrics import Mean
from ds_core.text.tokenizers import PAD
from ds_core.training.evaluation import evaluation_mode


def exact_match(translations: Sequence[str], references: Sequence[str]) -> float:
    """The share of translations that equal their reference, letter by letter.

    Raises:
        ValueError: there are none, or another number of references.
    """
    _check(translations, references)
    return sum(map(str.__eq__, translations, references)) / len(references)


def corpus_scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Exact matches 0 ... 1, BLEU and chrF 0 ... 100 over the whole (Post, "A Call for Clarity", 2018).

    Raises:
        ValueError: there are none, or another number of references.
        MissingPackageError: sacrebleu is not installed.
    """
    with needs_extra("text", "scoring translations"):
        import sacrebleu  # half a second, so only here

    exact = exact_match(translations, references)
    bleu = sacrebleu.corpus_bleu(list(translations), [list(references)])
    chrf = sacrebleu.corpus_chrf(list(translations), [list(references)])
    return {"exact": exact, "BLEU": bleu.score, "chrF": chrf.score}


def token_loss(model: Any, batches: Iterable[tuple[tuple[Any, Any], Any]]) -> dict[str, float]:
    """The loss without label smoothing, in nats per target token, and its exponential, the perplexity.

    Raises:
        ValueError: there is no token.
    """
    mean, criterion = Mean(), TokenCrossEntropy(ignore_index=PAD)
    with evaluation_mode(model):
        for inputs, target in batches:
            tokens = int((target != PAD).sum())
            if tokens:
                mean.update(criterion.forward(model.forward(*inputs), target), tokens)
    if not mean.weight:
        raise ValueError("token_loss: given no target token, expected at least one")
    loss = float(mean.compute())
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def _check(translations: Sequence[str], references: Sequence[str]) -> None:
    if len(translations) != len(references) or not references:
        raise ValueError(
            f"given {len(translations)} translations and {len(references)} references, expected as many, one at least"
        )
