"""What docs/seq2seq_rnn.md says of `ds train translate-rnn`, measured: by kind of sentence, by length, by attention."""

import argparse
import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

import torch
from ds_core.cli.main import main as ds
from ds_core.text.pairs import Pairs
from ds_core.text.scores import corpus_scores
from ds_rnn.translation.options import TranslateRNNOptions
from ds_rnn.translation.recipe import TranslateRNNRun

# English words that make a sentence one of numbers or dates, beside digits
NUMBERS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand"
)
DATES = (
    "January February March April May June July August September October November December "
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
)
TELLING = {*NUMBERS.split(), *(word.lower() for word in DATES.split())}


def of_number_or_date(sentence: str) -> bool:
    return any(word.isdigit() or word.lower() in TELLING for word in re.findall(r"[A-Za-z]+|\d+", sentence))


def trained(attention: str, seed: int, words: list[str]) -> tuple[Pairs, list[str], float]:
    """The test pairs of a run, their translations, and the seconds that it took."""
    words = ["--attention", attention, "--seed", str(seed), "--threads", str(torch.get_num_threads()), *words]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        with contextlib.redirect_stdout(io.StringIO()):
            if ds(["train", "translate-rnn", "--out", str(folder), "--no-plots", *words]) != 0:
                raise SystemExit("ds train translate-rnn failed")
        seconds = json.loads((folder / "results.json").read_text())["seconds"]
        test = TranslateRNNRun(TranslateRNNOptions()).read_data().parts.test
        translations = TranslateRNNRun.load(folder).translate(test.source)
    return test, translations, seconds


def summary(test: Pairs, translations: list[str]) -> str:
    """Exact matches and BLEU of sentences with a number or a date, of the others, and of all."""
    told = [of_number_or_date(sentence) for sentence in test.source]
    kinds = {"numbers and dates": told, "others": [not each for each in told], "all": [True] * len(told)}
    lines = []
    for kind, chosen in kinds.items():
        indices = [index for index, wanted in enumerate(chosen) if wanted]
        scores = corpus_scores([translations[i] for i in indices], [test.target[i] for i in indices])
        lines.append(f"  {kind:18} {len(indices):5}  exact {scores['exact']:7.2%}  BLEU {scores['BLEU']:6.2f}")
    return "\n".join(lines)


def by_length(test: Pairs, found: dict[str, list[str]], edges: list[int]) -> str:
    """A row for each class of lengths, in words of the source, with the exact matches of each attention."""
    lengths = [len(sentence.split()) for sentence in test.source]
    lines = ["words of the sentence      pairs" + "".join(f"{name:>12}" for name in found)]
    for least, most in zip([1, *(edge + 1 for edge in edges)], [*edges, max(lengths)], strict=True):
        indices = [index for index, length in enumerate(lengths) if least <= length <= most]
        if indices:
            exact = [sum(each[i] == test.target[i] for i in indices) / len(indices) for each in found.values()]
            lines.append(f"{least:>10} to {most:<10} {len(indices):>7}" + "".join(f"{share:12.1%}" for share in exact))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Other options go to ds train translate-rnn.")
    parser.add_argument("--attention", nargs="*", default=["bahdanau", "luong", "none"], help="default: all three")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--edges", type=int, nargs="*", default=[4, 6, 8, 10], help="longest sentence of each class")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options, words = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    for seed in options.seeds:
        found = {}
        for attention in options.attention:
            test, found[attention], seconds = trained(attention, seed, words)
            print(f"attention {attention}, seed {seed}: {seconds:.0f} s", summary(test, found[attention]), sep="\n")
        print(by_length(test, found, options.edges), flush=True)


if __name__ == "__main__":
    main()
