"""Tiny runs of the recipes: their options as words of the command line, a text and pairs of sentences."""

import itertools
import random

CHAR_RNN = {
    "num_layers": 2,
    "hidden_size": 6,
    "embed_dim": 4,
    "window": 5,
    "batch_size": 3,
    "steps": 4,
    "evaluate_every": 2,
    "evaluate_tokens": 60,
    "dropout": 0.1,
}
TRANSLATE_RNN = {
    "embed_dim": 8,
    "hidden_size": 6,
    "vocab_size": 280,
    "max_tokens": 300,
    "epochs": 2,
    "dropout": 0.1,
    "validation": 0.15,
    "test": 0.1,
    "beam_size": 1,
}
NOUNS = {"cat": "Katze", "dog": "Hund", "bird": "Vogel", "fish": "Fisch", "cow": "Kuh"}
VERBS = {"sees": "sieht", "hears": "hört", "likes": "mag"}


def words(options, **changed):
    """These options as words of the command line."""
    given = {**options, **changed}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def write_text(path):
    """40 lines of eight words."""
    draw = random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(["to", "be", "or", "not"], k=8)) for _ in range(40)))
    return path


def write_sentences(path):
    """75 sentences of three words and their translations."""
    rows = [
        f"the {one} {verb} the {other}.\t{NOUNS[one]} {VERBS[verb]} {NOUNS[other]}."
        for one, verb, other in itertools.product(NOUNS, VERBS, NOUNS)
    ]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path
