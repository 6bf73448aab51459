"""Resampling and pixel shuffle, forward and backward, against torch.nn."""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from ds_cnn import PixelShuffle, Upsample
from ds_core import record

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((8, 64, 32, 32), {"scale_factor": 2.0}),
    ((8, 64, 32, 32), {"size": 50}),
    ((8, 64, 32, 32), {"scale_factor": 2.0, "mode": "bilinear"}),
    ((8, 64, 32, 32), {"scale_factor": 2.0, "mode": "bicubic"}),
    ((8, 64, 64, 64), {"scale_factor": 0.5, "mode": "bilinear"}),
    ((2, 64, 128, 128), {"scale_factor": 2.0}),
    ((2, 64, 128, 128), {"scale_factor": 2.0, "mode": "bilinear"}),
    ((8, 3, 224, 224), {"size": 256, "mode": "bicubic"}),
    ((1, 768, 14, 14), {"size": 24, "mode": "bicubic"}),  # the position table of a ViT
    ((8, 64, 512), {"scale_factor": 2.0, "mode": "linear"}),
    ((2, 16, 16, 16, 16), {"scale_factor": 2.0, "mode": "trilinear"}),
]


def layers(name: str, shape: tuple[int, ...], ours: Any, theirs: Any) -> Row:
    x = torch.randn(shape)
    leaf = x.clone().requires_grad_()
    dy = torch.randn_like(theirs(x))

    def run_ours() -> None:
        with record():
            ours(x)
            ours.backward(dy)

    def run_theirs() -> None:
        leaf.grad = None
        theirs(leaf).backward(dy)

    return compare(f"{name} on {' x '.join(map(str, shape))}", run_ours, run_theirs)


def rows() -> list[Row]:
    found = []
    for shape, arguments in CASES:
        name = ", ".join(f"{key}={value}" for key, value in arguments.items())
        found.append(layers(name, shape, Upsample(**arguments), torch.nn.Upsample(**arguments)))
    return [*found, layers("PixelShuffle(2)", (8, 256, 32, 32), PixelShuffle(2), torch.nn.PixelShuffle(2))]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print_table(rows())
