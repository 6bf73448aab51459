"""RNN, LSTM and GRU over sequences, forward and backward through time, against torch.nn."""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from ds_core import record
from ds_rnn import GRU, LSTM, RNN
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, peak_bytes, print_table


def sequences(make: Any, batch: int, steps: int, size: int, packed: bool = False, **options: Any) -> Row:
    """One call of each is forward, and the gradients of input and parameters."""
    ours, theirs = make(size, size, **options), getattr(torch.nn, make.__name__)(size, size, **options)
    x: Any = torch.randn(steps, batch, size)
    if packed:
        x = pack_padded_sequence(x, torch.linspace(steps / 10, steps, batch).int().clamp(1), enforce_sorted=False)
    leaf = x.data.clone().requires_grad_()
    theirs_x: Any = PackedSequence(leaf, *x[1:]) if packed else leaf
    with torch.no_grad():
        y, _ = theirs(theirs_x)
    dy = torch.randn_like(y.data)

    def run_ours() -> None:
        ours.zero_grad()
        with record():
            found, _ = ours(x)
            ours.backward(PackedSequence(dy, *found[1:]) if packed else dy)

    def run_theirs() -> None:
        theirs.zero_grad()
        leaf.grad = None
        found, _ = theirs(theirs_x)
        (found.data if packed else found).backward(dy)

    words = "".join(f", {name}={value}" for name, value in options.items()) + (", packed" if packed else "")
    return compare(f"{make.__name__}({size}, {size}{words}), {steps} steps, batch {batch}", run_ours, run_theirs, 9)


def rows(lengths: list[int]) -> list[Row]:
    layers = [LSTM, GRU, RNN]
    found = [sequences(layer, 64, 100, 256) for layer in layers]
    found += [sequences(layer, 64, 100, 256, bidirectional=True) for layer in layers]
    found += [sequences(layer, 64, 100, 256, packed=True) for layer in layers]
    found += [sequences(layer, 32, steps, 128) for layer in layers for steps in lengths]
    return found


def print_growth(lengths: list[int], window: int, batch: int = 32, size: int = 128) -> None:
    """Time and peak memory of ours over a whole sequence, and in windows between which the state alone is carried."""
    print(f"\nforward and backward of our layers ({size}, {size}), batch {batch}: how time and memory grow")
    print(f"{'':6}{'':>8}  {'the whole sequence at once':>36}  {f'windows of {window} steps':>36}")
    print(f"{'layer':<6}{'steps':>8}" + f"  {'ms':>12}{'us a step':>12}{'peak MB':>12}" * 2)
    for make in (LSTM, GRU, RNN):
        layer = make(size, size)
        for steps in lengths:
            x, dy = torch.randn(2, steps, batch, size)
            cells = ""
            for length in (steps, window):

                def run(length: int = length, x: Any = x, dy: Any = dy, layer: Any = layer) -> None:
                    layer.zero_grad()
                    state = None
                    for part, dpart in zip(x.split(length), dy.split(length), strict=True):
                        with record():
                            _, state = layer(part, state)
                            layer.backward(dpart)

                run()
                peak = peak_bytes(run)
                times = []
                for _ in range(5):
                    start = time.perf_counter()
                    run()
                    times.append(time.perf_counter() - start)
                seconds = statistics.median(times)
                cells += f"  {seconds * 1e3:12.2f}{seconds / steps * 1e6:12.1f}{peak / 1e6:12.2f}"
            print(f"{make.__name__:<6}{steps:8}{cells}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=[10, 100, 1000], help="steps of smaller layers")
    parser.add_argument("--window", type=int, default=50, help="steps of a window of truncated backpropagation")
    parser.add_argument("--growth", action="store_true", help="only how time and memory of ours grow with the length")
    given = parser.parse_args()
    if not given.growth:
        print_table(rows(given.lengths))
    print_growth(given.lengths, given.window)
