"""What a run that learned to translate says at its end."""

from collections.abc import Mapping, Sequence

from ds_core.recipes.results import table
from ds_core.recipes.translation.sentence_io import in_one_line
from ds_core.text.pairs import Pairs


def print_test(pairs: Pairs, translations: Sequence[str], scores: Mapping[str, float], perplexity: float) -> None:
    """The first sentences that came out differently from their reference, and the scores."""
    print(examples(pairs, translations))
    print(
        f"{len(pairs):,} test sentences: {scores['exact']:.2%} translated exactly as their reference, "
        f"BLEU {scores['BLEU']:.2f}, chrF {scores['chrF']:.2f}; validation perplexity {perplexity:.3f}"
    )


def examples(pairs: Pairs, translations: Sequence[str], count: int = 5) -> str:
    """A table of sentences, translations and references: first those that differ, then others."""
    rows = sorted(zip(pairs.source, translations, pairs.target, strict=True), key=lambda row: row[1] == row[2])[:count]
    return table(["source", "translation", "reference"], [list(map(in_one_line, row)) for row in rows])
