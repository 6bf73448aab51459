"""What `ds train translate` reaches as it stands, over several seeds: python benchmarks/translate.py --help.

hatch run bench translate -- [--pair en-de] [--seeds 0 1 2] [--threads 2]

Each run has a folder of its own. Printed are, of the test sentences, exact match and BLEU, of the validation sentences
perplexity, and the seconds spent in training steps and from the command to its end.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ds_core.cli.main import main as ds


def train(pair: str, seed: int, threads: int | None) -> dict[str, float]:
    """The numbers of one run."""
    source, target = pair.split("-")
    languages = ["--source-language", source, "--target-language", target]
    more = [] if threads is None else ["--threads", str(threads)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        status = ds(["train", "translate", "--out", f"{folder}/run", "--seed", str(seed), *languages, *more])
        whole = time.perf_counter() - began
        if status != 0:
            sys.exit(f"ds train translate ended with status {status}")
        results = json.loads(Path(folder, "run", "results.json").read_text())
    return {
        "exact": results["test"]["exact"],
        "BLEU": results["test"]["BLEU"],
        "perplexity": results["validation"]["perplexity"],
        "training": results["seconds"],
        "whole": whole,
    }


def line(name: str, found: dict[str, float]) -> str:
    return (
        f"{name:8} {found['exact']:8.2%} {found['BLEU']:7.2f} {found['perplexity']:11.4f} {found['training']:11.0f} "
        f"{found['whole']:8.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pair", default="en-de", help="source and target language of the shipped sentences")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
    options = parser.parse_args()
    if options.pair.count("-") != 1:
        parser.error(f"--pair: given {options.pair!r}, expected two languages, as en-de")
    runs = [train(options.pair, seed, options.threads) for seed in options.seeds]
    mean = {name: statistics.mean(found[name] for found in runs) for name in runs[0]}
    print(f"\n{options.pair}\nseed        exact    BLEU  perplexity  training s  whole s")
    for name, found in zip([*map(str, options.seeds), "mean"], [*runs, mean], strict=True):
        print(line(name, found))


if __name__ == "__main__":
    main()
