"""Batch norm and instance norm, forward and backward, against torch.nn; both memory orders of images."""

import argparse
import sys
from pathlib import Path

import torch
from ds_cnn import BatchNorm2d, InstanceNorm2d
from ds_core import record
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

SHAPES = [(64, 64, 32, 32), (64, 128, 16, 16), (64, 256, 8, 8), (64, 512, 4, 4)]  # ResNet-18's on 32 x 32, batch 64


def norm(kind: str, shape: tuple[int, int, int, int], last: bool, training: bool) -> Row:
    classes = {"BatchNorm2d": BatchNorm2d, "InstanceNorm2d": InstanceNorm2d}
    ours, theirs = (made(shape[1]).train(training) for made in (classes[kind], getattr(torch.nn, kind)))
    x, dy = (in_order(torch.randn(shape), last) for _ in range(2))
    leaf = x.clone().requires_grad_()

    def run_ours() -> None:
        ours.zero_grad()
        with record():
            ours(x)
            ours.backward(dy)

    def run_theirs() -> None:
        leaf.grad = None
        theirs.zero_grad()
        theirs(leaf).backward(dy)

    order, mode = "channels last" if last else "channels first", "training" if training else "evaluation"
    return compare(f"{kind} on {' x '.join(map(str, shape))}, {order}, {mode}", run_ours, run_theirs)


def in_order(x: Tensor, last: bool) -> Tensor:
    return x.to(memory_format=torch.channels_last) if last else x


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows = [norm("BatchNorm2d", shape, last, True) for shape in SHAPES for last in (False, True)]
    rows += [norm("BatchNorm2d", SHAPES[0], last, False) for last in (False, True)]
    rows += [norm("InstanceNorm2d", SHAPES[0], last, True) for last in (False, True)]
    print_table(rows)
