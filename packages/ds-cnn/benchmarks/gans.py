"""How good the samples of `dcgan` and `wgan` are, over several seeds: python benchmarks/gans.py --help.

The judge is a run of `ds train cnn` on digits, made first (or given with --judge). A sample counts if the judge gives
some class a probability above 0.9; all ten classes should be among them. It is trained without label smoothing: with
0.05, the default, it is taught never to be sure, and of real test images it gives 92 % a probability above 0.9.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from ds_core.cli.main import main
from ds_core.recipes.results import table


def train(recipe: str, folder: Path, *words: str) -> dict[str, object]:
    """Run `ds train` and return its results."""
    if main(["train", recipe, "--out", str(folder), "--no-plots", *words]) != 0:
        sys.exit(f"ds train {recipe} failed")
    found: dict[str, object] = json.loads((folder / "results.json").read_text())
    return found


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="*", default=["dcgan", "wgan"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--judge", type=Path, help="the folder of a run of ds train cnn on digits")
    parser.add_argument("--threads", default="1")
    parser.add_argument("words", nargs="*", help="more options for every run, after --")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        judge = options.judge
        if judge is None:
            judge = Path(folder) / "cnn"
            train("cnn", judge, "--threads", options.threads, "--label-smoothing", "0")
        for recipe in options.recipes:
            for seed in options.seeds:
                words = ["--seed", str(seed), "--judge", str(judge), "--threads", options.threads, *options.words]
                found = train(recipe, Path(folder) / f"{recipe}-{seed}", *words)
                of_judge: dict[str, float] = found["judge"]  # type: ignore[assignment]
                rows.append(
                    [
                        recipe,
                        str(seed),
                        found["confident"],
                        found["classes"],
                        found["seconds"],
                        of_judge["accuracy"],
                        of_judge["confident of real"],
                    ]
                )
                print(rows[-1], flush=True)
    print(table(["recipe", "seed", "sure of", "classes", "seconds", "judge right", "sure of real"], rows))


if __name__ == "__main__":
    run()
