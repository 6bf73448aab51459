"""Convolutions as layers, forward and backward with all gradients, against torch.nn."""

import argparse
import sys
from pathlib import Path

import torch
from ds_cnn import Conv2d, ConvTranspose2d
from ds_core import Module, record

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table


def layers(name: str, ours: Module, theirs: torch.nn.Module, x: torch.Tensor, pairs: int) -> Row:
    """One call of each is forward, input gradient, weight gradient and bias gradient."""
    leaf = x.clone().requires_grad_()
    parameters = list(theirs.parameters())
    with torch.no_grad():
        dy = torch.randn_like(theirs(x))

    def run_ours() -> None:
        ours.zero_grad()
        with record():
            ours(x)
            ours.backward(dy)

    def run_theirs() -> None:
        for tensor in (leaf, *parameters):
            tensor.grad = None
        theirs(leaf).backward(dy)

    return compare(f"{name} on {' x '.join(map(str, x.shape))}", run_ours, run_theirs, pairs)


def rows(pairs: int) -> list[Row]:
    """The images have their channels last in memory, as torch.nn likes them, and as our layers hand them on."""
    cases = [
        ("3x3, 64", (16, 64, 32, 32), Conv2d, torch.nn.Conv2d, (64, 64, 3, 1, 1), {}),
        ("3x3, 64", (64, 64, 32, 32), Conv2d, torch.nn.Conv2d, (64, 64, 3, 1, 1), {}),
        ("3x3, 128", (64, 128, 16, 16), Conv2d, torch.nn.Conv2d, (128, 128, 3, 1, 1), {}),
        ("3x3, 512", (64, 512, 4, 4), Conv2d, torch.nn.Conv2d, (512, 512, 3, 1, 1), {}),
        ("1x1, 64 to 128", (16, 64, 32, 32), Conv2d, torch.nn.Conv2d, (64, 128, 1), {}),
        ("1x1, 256 to 64", (16, 256, 14, 14), Conv2d, torch.nn.Conv2d, (256, 64, 1), {}),
        ("3x3 stride 2, 64 to 128", (64, 64, 32, 32), Conv2d, torch.nn.Conv2d, (64, 128, 3, 2, 1), {}),
        ("depthwise 3x3, 64", (16, 64, 32, 32), Conv2d, torch.nn.Conv2d, (64, 64, 3, 1, 1), {"groups": 64}),
        ("3x3, 64 in 8 groups", (16, 64, 32, 32), Conv2d, torch.nn.Conv2d, (64, 64, 3, 1, 1), {"groups": 8}),
        ("3x3, 3 to 64", (64, 3, 32, 32), Conv2d, torch.nn.Conv2d, (3, 64, 3, 1, 1), {}),
        (
            "transposed 4x4 stride 2, 128 to 64",
            (32, 128, 16, 16),
            ConvTranspose2d,
            torch.nn.ConvTranspose2d,
            (128, 64, 4, 2, 1),
            {},
        ),
    ]
    found = []
    for name, shape, ours, theirs, arguments, options in cases:
        x = torch.randn(shape).to(memory_format=torch.channels_last)
        twin = theirs(*arguments, **options).to(memory_format=torch.channels_last)
        found.append(layers(name, ours(*arguments, **options), twin, x, pairs))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="A B pairs per case")
    print_table(rows(parser.parse_args().pairs))
