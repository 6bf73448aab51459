"""A tiny run of the recipe `minibert`: its options as words of the command line, and what it learns from."""

import json
import random

TINY = {
    "num_layers": 1,
    "num_heads": 2,
    "embed_dim": 8,
    "hidden_dim": 12,
    "max_length": 12,
    "vocab_size": 60,
    "batch_size": 4,
    "steps": 4,
    "evaluate_every": 2,
    "evaluate_batches": 2,
    "dropout": 0.1,
}
# What fine-tuning cannot be told, because the folder decides it
OF_THE_FOLDER = ("num_layers", "num_heads", "embed_dim", "hidden_dim", "vocab_size", "dropout")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "to", "its", "house"]


def words(**options):
    given = {**TINY, **options}
    return [
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def fine_tuning_words(**options):
    return words(**{**dict.fromkeys(OF_THE_FOLDER), **options})


def write_text(path, seed=0):
    """40 paragraphs of three sentences."""
    draw = random.Random(seed)
    sentences = (" ".join(draw.choices(WORDS, k=6)).capitalize() + "." for _ in range(120))
    path.write_text("\n\n".join(" ".join(next(sentences) for _ in range(3)) for _ in range(40)))
    return path


def write_labelled(path):
    """60 texts, half of which say that they are good."""
    draw = random.Random(0)
    rows = [(" ".join([*draw.choices(WORDS, k=4), label]), label) for label in ["good", "bad"] * 30]
    if path.suffix == ".csv":
        path.write_text("text,label\n" + "\n".join(f'"{text}",{label}' for text, label in rows) + "\n")
    else:
        path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    return path
