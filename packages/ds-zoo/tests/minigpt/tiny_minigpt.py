"""A tiny run of the recipe `minigpt`: its options as words of the command line, and its text."""

import random

TINY = {
    "num_layers": 1,
    "num_heads": 2,
    "embed_dim": 8,
    "block_size": 8,
    "batch_size": 2,
    "steps": 4,
    "evaluate_every": 2,
    "evaluate_batches": 2,
    "dropout": 0.1,
}


def words(**options):
    given = {**TINY, **options}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def write_text(path):
    """40 lines of eight words."""
    draw = random.Random(0)
    path.write_text("\n".join(" ".join(draw.choices(["to", "be", "or", "not"], k=8)) for _ in range(40)))
    return path
