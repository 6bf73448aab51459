"""A recurrent cell over a sequence, forward and backward through time, against torch.nn."""

import argparse
import sys
from pathlib import Path

import torch
from ds_core import record
from ds_rnn import RNNCell
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table


def sequence(batch: int, steps: int, inputs: int, hidden: int) -> Row:
    ours, theirs = RNNCell(inputs, hidden), torch.nn.RNNCell(inputs, hidden)
    x = torch.randn(steps, batch, inputs).unbind(0)
    dh_last = torch.randn(batch, hidden)

    def run_ours() -> None:
        ours.zero_grad()
        h = torch.zeros(batch, hidden)
        dh: Tensor | None = dh_last
        with record():
            for step in x:
                h = ours.forward(step, h)
            for _ in x:
                _, dh = ours.backward(dh)

    def run_theirs() -> None:
        theirs.zero_grad()
        h = torch.zeros(batch, hidden)
        for step in x:
            h = theirs(step, h)
        h.backward(dh_last)

    return compare(f"RNNCell({inputs}, {hidden}), {steps} steps, batch {batch}", run_ours, run_theirs)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print_table([sequence(64, 20, 128, 128), sequence(64, 20, 256, 512), sequence(1, 100, 64, 64)])
