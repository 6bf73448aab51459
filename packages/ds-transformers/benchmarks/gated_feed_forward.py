"""Time and peak memory of the gated feed-forward network against torch.nn with autograd, and of its two layouts.

    python packages/ds-transformers/benchmarks/gated_feed_forward.py
    python packages/ds-transformers/benchmarks/gated_feed_forward.py --pairs 40 --threads 1

The last row of each size compares one product over the packed weights of gate and up with the two products that the
layer takes (docs/gated_feed_forward.md).
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from ds_core import SiLU, no_record, record
from ds_transformers import GatedFeedForward
from ds_transformers.blocks.gated_feed_forward import swiglu, swiglu_backward
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

SIZES = [(2048, 384, 1024), (1024, 128, 352), (256, 384, 1024), (64, 64, 176)]  # tokens, embed_dim, hidden


class TorchGated(torch.nn.Module):
    """Llama's layer, written with torch.nn."""

    def __init__(self, embed_dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(embed_dim, hidden, bias=False)
        self.up_proj = torch.nn.Linear(embed_dim, hidden, bias=False)
        self.down_proj = torch.nn.Linear(hidden, embed_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(torch.nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


def of_ours(layer: GatedFeedForward, x: Tensor, dy: Tensor) -> Callable[[], object]:
    def call() -> object:
        layer.zero_grad()
        with record():
            layer(x)
            return layer.backward(dy)

    return call


def of_theirs(layer: torch.nn.Module, x: Tensor, dy: Tensor) -> Callable[[], object]:
    leaf = x.clone().requires_grad_()

    def call() -> object:
        layer.zero_grad()
        leaf.grad = None
        layer(leaf).backward(dy)
        return leaf.grad

    return call


def layouts(x: Tensor, hidden: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Forward and backward of the part below the product: packed weights, and two."""
    gate_weight, up_weight = torch.randn(2, hidden, x.shape[1])
    packed_weight = torch.cat((gate_weight, up_weight))
    dhidden = torch.randn(x.shape[0], hidden)

    def packed() -> object:
        with no_record():
            gate, up = (x @ packed_weight.t()).chunk(2, 1)
            swiglu(gate, up)
            dgate, dup, _ = swiglu_backward(dhidden, gate, up)
            both = torch.cat((dgate, dup), 1)
            return both @ packed_weight, both.t() @ x

    def two() -> object:
        with no_record():
            gate, up = x @ gate_weight.t(), x @ up_weight.t()
            swiglu(gate, up)
            dgate, dup, _ = swiglu_backward(dhidden, gate, up)
            return dgate @ gate_weight + dup @ up_weight, dgate.t() @ x, dup.t() @ x

    return packed, two


def rows(options: argparse.Namespace) -> Iterator[Row]:
    for tokens, width, hidden in SIZES:
        x, dy = torch.randn(2, tokens, width)
        twin = TorchGated(width, hidden)
        for name, activation in (("SwiGLU in one pass", None), ("SiLU() and a product", SiLU())):
            layer = GatedFeedForward(width, hidden, activation)
            layer.load_state_dict(twin.state_dict())
            ours, theirs = of_ours(layer, x, dy), of_theirs(twin, x, dy)
            torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-5)
            yield compare(f"{tokens} x {width}, hidden {hidden}: {name}", ours, theirs, options.pairs)
        yield compare("    packed against two, without down_proj", *layouts(x, hidden), options.pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30, help="A B pairs for each case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"float32, {options.threads} thread(s), forward and backward, against torch.nn with autograd")
    print_table(rows(options))


if __name__ == "__main__":
    main()
