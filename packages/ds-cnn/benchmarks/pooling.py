"""Average, max and adaptive pooling, forward and backward, against torch.nn."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from ds_cnn import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d
from ds_core import record

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

SHAPE = (32, 64, 32, 32)
ORDERS = {"": torch.contiguous_format, ", channels last": torch.channels_last}
LAYERS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    *((AvgPool2d, arguments) for arguments in [(2, 2, 0), (3, 2, 1), (7, 1, 3)]),
    *((MaxPool2d, arguments) for arguments in [(2, 2, 0), (3, 2, 1), (3, 1, 1)]),
    *((AdaptiveAvgPool2d, (size,)) for size in [1, 4, 7]),
    *((AdaptiveMaxPool2d, (size,)) for size in [1, 4, 7]),
]


def pooling(make: Callable[..., Any], arguments: tuple[Any, ...], order: str) -> Row:
    ours, theirs = make(*arguments), getattr(torch.nn, make.__name__)(*arguments)
    x = torch.randn(SHAPE).contiguous(memory_format=ORDERS[order])
    leaf = x.clone().requires_grad_()
    dy = torch.randn_like(theirs(x))

    def run_ours() -> None:
        with record():
            ours(x)
            ours.backward(dy)

    def run_theirs() -> None:
        leaf.grad = None
        theirs(leaf).backward(dy)

    return compare(f"{make.__name__}{str(arguments).replace(',)', ')')}{order}", run_ours, run_theirs)


def rows(only: str) -> Iterator[Row]:
    for make, arguments in LAYERS:
        for order in ORDERS:
            if only in make.__name__:
                yield pooling(make, arguments, order)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=f"{__doc__} Images of {' x '.join(map(str, SHAPE))}.")
    parser.add_argument("--only", default="", help="classes whose names contain this")
    print_table(rows(parser.parse_args().only))
