"""Optimizer steps and clipping alone, ours against torch.optim: python benchmarks/optimizers.py --help."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ds_core import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, Muon, NAdam, RAdam, RMSprop, clip_grad_norm_

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

Shapes = list[tuple[int, ...]]
Make = Callable[[list[torch.Tensor]], Any]

SHAPES: dict[str, Shapes] = {
    "150 biases of 32": [(32,)] * 150,
    "50 times a 128 x 128 layer with norm": [(128,), (128, 128), (128,)] * 50,
    "150 matrices of 128 x 128": [(128, 128)] * 150,
    "MLP 784-512-512-10": [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)],
    "GPT of 6 layers, 384 wide": [
        (65, 384),
        (256, 384),
        *[
            (384,),
            (384,),
            (1152, 384),
            (1152,),
            (384, 384),
            (384,),
            (384,),
            (384,),
            (1536, 384),
            (1536,),
            (384, 1536),
            (384,),
        ]
        * 6,
    ],
}

OPTIMIZERS: dict[str, tuple[Make, Make]] = {
    "Adam": (Adam, torch.optim.Adam),
    "AdamW": (AdamW, torch.optim.AdamW),
    "SGD, momentum": (lambda p: SGD(p, momentum=0.9), lambda p: torch.optim.SGD(p, momentum=0.9)),
    "Adagrad": (Adagrad, torch.optim.Adagrad),
    "RMSprop": (RMSprop, torch.optim.RMSprop),
    "RMSprop, centered, momentum": (
        lambda p: RMSprop(p, momentum=0.9, centered=True),
        lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
    ),
    "Adadelta": (Adadelta, torch.optim.Adadelta),
    "Adamax": (Adamax, torch.optim.Adamax),
    "NAdam": (NAdam, torch.optim.NAdam),
    "RAdam": (RAdam, torch.optim.RAdam),
    "Lion against AdamW": (Lion, torch.optim.AdamW),
    "Adam without packs": (lambda p: Adam(p, flat=False), torch.optim.Adam),
    "Adam against fused=True": (Adam, lambda p: torch.optim.Adam(p, fused=True)),
}
if hasattr(torch.optim, "Muon"):
    OPTIMIZERS["Muon, matrices only"] = (Muon, torch.optim.Muon)


def parameters(shapes: Shapes) -> list[torch.Tensor]:
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    for tensor in tensors:
        tensor.grad = torch.randn_like(tensor) * 0.01
    return tensors


def step_case(shapes: str, optimizer: str, pairs: int) -> Row:
    chosen = [shape for shape in SHAPES[shapes] if len(shape) == 2] if "matrices" in optimizer else SHAPES[shapes]
    ours, theirs = (make(parameters(chosen)) for make in OPTIMIZERS[optimizer])
    ours.step()  # makes the state; the next one packs it
    return compare(f"{optimizer}: {shapes}", ours.step, theirs.step, pairs)


def clipping_case(shapes: str, pairs: int) -> Row:
    ours, theirs = parameters(SHAPES[shapes]), parameters(SHAPES[shapes])
    return compare(
        f"clip_grad_norm_: {shapes}",
        lambda: clip_grad_norm_(ours, 1.0),
        lambda: torch.nn.utils.clip_grad_norm_(theirs, 1.0),
        pairs,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="optimizers whose name holds this, as Adam; clipping for clipping")
    parser.add_argument("--shapes", default="", help="sets of shapes whose name holds this, as MLP")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sets = [name for name in SHAPES if options.shapes in name]
    rows = []
    for optimizer in [name for name in OPTIMIZERS if options.only in name]:
        for shapes in sets:
            if "matrices" not in optimizer or any(len(shape) == 2 for shape in SHAPES[shapes]):
                rows.append(step_case(shapes, optimizer, options.pairs))
    if options.only in "clipping":
        rows += [clipping_case(shapes, options.pairs) for shapes in sets]
    print_table(rows)


if __name__ == "__main__":
    main()
