"""A tiny run of the recipe `translate`: its options as words of the command line, and its sentences."""

import itertools

TINY = {
    "embed_dim": 8,
    "num_heads": 2,
    "dim_feedforward": 12,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
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


def words(**options):
    """These options as words of the command line; of a bool the flag, None leaves an option out."""
    found = []
    for name, value in {**TINY, **options}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            found += [f"--{flag}", str(value)]
    return found


def write_sentences(path):
    """75 sentences of three words and their translations."""
    rows = [
        f"the {one} {verb} the {other}.\t{NOUNS[one]} {VERBS[verb]} {NOUNS[other]}."
        for one, verb, other in itertools.product(NOUNS, VERBS, NOUNS)
    ]
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path
