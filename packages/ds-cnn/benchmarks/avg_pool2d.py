"""Average pooling, forward and backward, against torch.nn."""

import argparse
import sys
from pathlib import Path

import torch
from ds_cnn import AvgPool2d
from ds_core import record

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table


def pooling(kernel_size: int, stride: int, padding: int) -> Row:
    ours, theirs = AvgPool2d(kernel_size, stride, padding), torch.nn.AvgPool2d(kernel_size, stride, padding)
    x = torch.randn(32, 64, 32, 32)
    leaf = x.clone().requires_grad_()
    dy = torch.randn_like(theirs(x))

    def run_ours() -> None:
        with record():
            ours(x)
            ours.backward(dy)

    def run_theirs() -> None:
        leaf.grad = None
        theirs(leaf).backward(dy)

    return compare(f"AvgPool2d({kernel_size}, {stride}, {padding}) on 32 x 64 x 32 x 32", run_ours, run_theirs)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print_table([pooling(2, 2, 0), pooling(3, 2, 1), pooling(7, 1, 3)])
