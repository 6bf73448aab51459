"""What the recipes reach, over several seeds: python benchmarks/accuracy.py --help.

`mlp` on digits and, with --mnist FOLDER, on MNIST; `regression` on diabetes beside scikit-learn's MLPRegressor of the
same architecture, on the same rows.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ds_core.cli.main import main as ds
from ds_core.recipes.prepare import prepare
from ds_core.recipes.regression import RegressionOptions
from sklearn.neural_network import MLPRegressor


def train(name: str, seed: int, *options: str) -> tuple[dict[str, Any], float]:
    """The recipe's results, and the seconds from its command to its end, without the imports."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        status = ds(["train", name, "--out", f"{folder}/run", "--seed", str(seed), "--overwrite", *options])
        seconds = time.perf_counter() - began
        if status != 0:
            sys.exit(f"ds train {name} ended with status {status}")
        return json.loads(Path(folder, "run", "results.json").read_text()), seconds


def classes(title: str, seeds: list[int], *options: str) -> str:
    runs = [train("mlp", seed, *options) for seed in seeds]
    accuracies = [results["test"]["accuracy"] for results, _ in runs]
    shown = " ".join(f"{accuracy:.4f}" for accuracy in accuracies)
    seconds = sum(seconds for _, seconds in runs)
    return f"{title}: mean {statistics.mean(accuracies):.4f} ({shown}), {seconds:.1f} s in all"


def regression(seeds: list[int]) -> str:
    ours, theirs = [], []
    for seed in seeds:
        results, _ = train("regression", seed)
        ours.append(results["test"]["loss"])
        options = RegressionOptions(dataset="diabetes", seed=seed)
        data = prepare(options, "regression", torch.device("cpu"))
        x, y = (torch.cat(pair).numpy() for pair in zip(data.train.tensors, data.validation.tensors, strict=True))
        twin = MLPRegressor(
            hidden_layer_sizes=options.hidden, random_state=seed, early_stopping=True, max_iter=2000
        ).fit(x, y.ravel())
        plain = MLPRegressor(hidden_layer_sizes=options.hidden, random_state=seed, max_iter=2000).fit(x, y.ravel())
        x, y = (tensor.numpy() for tensor in data.test.tensors)
        theirs.append([float(((fitted.predict(x) - y.ravel()) ** 2).mean()) for fitted in (twin, plain)])
    stopped, whole = (statistics.mean(column) for column in zip(*theirs, strict=True))
    mean = statistics.mean(ours)
    return (
        f"regression on diabetes, mean squared error in variances of the target: {mean:.4f}; MLPRegressor "
        f"{stopped:.4f} stopped early (ratio {mean / stopped:.3f}), {whole:.4f} without (ratio {mean / whole:.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--mnist", metavar="FOLDER", help="where MNIST's four files are")
    options = parser.parse_args()
    lines = [classes("mlp on digits", options.seeds), regression(options.seeds)]
    if options.mnist:
        more = ["--dataset", "mnist", "--folder", options.mnist, "--epochs", "10", "--batch-size", "128"]
        more += ["--hidden", "512", "512", "--validation", "0.05", "--evaluate-every", "1"]
        lines.append(classes("mlp on MNIST, ten epochs", options.seeds[:1], *more))
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
