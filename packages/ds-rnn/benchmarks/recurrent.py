"""RNN, LSTM and GRU over sequences, forward and backward through time, against torch.nn."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from ds_core import record
from ds_rnn import GRU, LSTM, RNN
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=[10, 100, 1000], help="steps of smaller layers")
    print_table(rows(parser.parse_args().lengths))
