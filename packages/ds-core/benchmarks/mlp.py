"""A training step of an MLP, ours against torch.nn with autograd: python benchmarks/mlp.py --help."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from ds_core import Adam, CrossEntropyLoss, Linear, ReLU, Sequential, compile_step, whole_step

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table

WIDTHS, BATCH = (784, 512, 512, 10), 128


def our_step(x: torch.Tensor, target: torch.Tensor, compiled: bool) -> Callable[[], object]:
    model = Sequential(Linear(784, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))
    make = compile_step if compiled else whole_step
    step = make(model, CrossEntropyLoss(), Adam(model.parameters()))
    return lambda: step([(x, target)])


def their_step(x: torch.Tensor, target: torch.Tensor) -> Callable[[], object]:
    nn = torch.nn
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters())

    def step() -> None:
        criterion(model(x), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--compiled", action="store_true", help="also the compiled step, which takes a while to compile"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    x, target = torch.randn(BATCH, WIDTHS[0]), torch.randint(WIDTHS[-1], (BATCH,))
    name = f"MLP {'-'.join(map(str, WIDTHS))}, batch {BATCH}, Adam"
    rows = [compare(f"{name}, eager", our_step(x, target, False), their_step(x, target), options.pairs)]
    if options.compiled:
        compiled = our_step(x, target, True)
        compiled()
        rows.append(compare(f"{name}, compiled step", compiled, their_step(x, target), options.pairs))
    print_table(rows)


if __name__ == "__main__":
    main()
