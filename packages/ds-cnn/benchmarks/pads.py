"""Padding, forward and backward, against torch.nn; both memory orders of images."""

import argparse
import sys
from pathlib import Path

import torch
from ds_cnn.padding import pads
from ds_core import record

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table


def padding(name: str, last: bool) -> Row:
    ours, theirs = getattr(pads, name)(1), getattr(torch.nn, name)(1)
    x = torch.randn(32, 64, 32, 32)
    x = x.to(memory_format=torch.channels_last) if last else x
    leaf = x.clone().requires_grad_()
    dy = torch.randn_like(theirs(x))

    def run_ours() -> None:
        with record():
            ours(x)
            ours.backward(dy)

    def run_theirs() -> None:
        leaf.grad = None
        theirs(leaf).backward(dy)

    order = "channels last" if last else "channels first"
    return compare(f"{name}(1) on 32 x 64 x 32 x 32, {order}", run_ours, run_theirs)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    names = ["ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"]
    print_table([padding(name, last) for name in names for last in (False, True)])
