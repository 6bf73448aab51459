"""How long an epoch of `ds train translate --preset multi30k` takes: time per step on files of Multi30k's size.

hatch run bench multi30k -- [--steps 40] [--threads 2]

Writes 29,000 pairs of made-up sentences as train, val and test_2016_flickr files: with Multi30k's published numbers of
tokens (means of 13.0 in English and 12.4 in German, the full stop counted) and of different words (10,000 and 18,000),
words being made of syllables and drawn by Zipf's law. Reads them with the recipe's own reader, trains its own model on
some batches of an epoch, and reports the time of the whole epoch: its steps times the mean of a step. How many tokens
BPE makes of a word decides it, so that is printed too. The numbers say nothing of quality.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ds_core import AdamW, TokenCrossEntropy, clip_grad_norm_, record
from ds_core.recipes.translation.corpus import read_corpus
from ds_core.text.tokenizers import PAD
from ds_transformers.translation.options import TranslateOptions
from ds_transformers.translation.recipe import build_model

SIZES = {"train": 29000, "val": 1014, "test_2016_flickr": 1000}
LANGUAGES = {"de": (18000, 12.4), "en": (10000, 13.0)}


def write_files(folder: Path, seed: int = 0) -> None:
    draws = np.random.default_rng(seed)
    consonants, vowels = list("bdfghklmnprstvwz"), ["a", "e", "i", "o", "u", "ei", "au"]
    syllables = [f"{first}{vowel}{last}" for first in consonants for vowel in vowels for last in ("", "n", "r", "s")]
    common = draws.permutation(syllables)[:120]
    for language, (words, length) in LANGUAGES.items():
        spelled = {"".join(draws.choice(common, draws.integers(1, 5))) for _ in range(3 * words)}
        vocabulary = draws.permutation(sorted(spelled))[:words]
        chances = (np.arange(len(vocabulary)) + 2.7) ** -1.15
        chances /= chances.sum()
        for part, count in SIZES.items():
            lengths = np.clip(draws.normal(length - 1, 4, count).round(), 3, 40).astype(int)
            lines = [" ".join(draws.choice(vocabulary, size, p=chances)) + "." for size in lengths]
            (folder / f"{part}.{language}").write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="how many batches of the epoch, spread over it")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name))
        options = TranslateOptions(preset="multi30k", multi30k=Path(name), source_language="de", target_language="en")
        began = time.perf_counter()
        corpus = read_corpus(options)
        print(f"read, and learned {corpus.source_tokenizer.vocab_size} tokens in {time.perf_counter() - began:.0f} s")
    for language, side, tokenizer in (
        ("de", corpus.parts.train.source, corpus.source_tokenizer),
        ("en", corpus.parts.train.target, corpus.target_tokenizer),
    ):
        tokens = sum(map(len, tokenizer.encode_batch(side)))
        words = statistics.mean(len(sentence.split()) for sentence in side)
        print(f"{language}: {tokens / len(side):.1f} tokens a sentence of {words:.1f} words and a full stop")
    model = build_model(options, corpus.source_tokenizer.vocab_size, corpus.target_tokenizer.vocab_size)
    batches = corpus.batches(corpus.parts.train, options.max_tokens, torch.device("cpu"))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    criterion = TokenCrossEntropy(ignore_index=PAD, label_smoothing=0.1)
    seconds, tokens = [], 0
    for index in range(o.steps):
        inputs, following = batches.batch(index)
        began = time.perf_counter()
        with record():
            criterion(model(*inputs), following)
            model.backward(criterion.backward())
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
        tokens += int((following != PAD).sum())
    count = sum(tensor.numel() for tensor in model.parameters())
    mean, steps = statistics.mean(seconds[2:]), batches.steps_per_epoch
    print(f"{count:,} parameters, {steps} steps an epoch, {tokens / o.steps:.0f} target tokens a step")
    middle = statistics.median(seconds)
    print(f"{mean * 1e3:.0f} ms a step (median {middle * 1e3:.0f}): {mean * steps / 60:.2f} minutes an epoch")


if __name__ == "__main__":
    main()
