"""Forward and backward of single layers, ours against torch.nn with autograd: python benchmarks/layers.py --help."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ds_core.activations.gelu import GELU
from ds_core.activations.relu import ReLU
from ds_core.activations.softmax import Softmax
from ds_core.engine.compiled import compile_pairs
from ds_core.engine.trace import record
from ds_core.layers.dropout import Dropout
from ds_core.layers.embedding import Embedding, embedding_backward
from ds_core.layers.layer_norm import LayerNorm
from ds_core.losses.cross_entropy import CrossEntropyLoss

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

TOKENS, WIDTH = 2048, 384  # batch 8 of 256 tokens, 384 wide


def layer_case(name: str, ours: Any, theirs: Any, x: torch.Tensor, pairs: int) -> Row:
    """One forward and one backward, gradients of the input and of all parameters."""
    dy = torch.randn_like(ours(x))
    leaf = x.clone().requires_grad_(x.is_floating_point())

    def our_pass() -> None:
        ours.zero_grad()
        with record():
            ours(x)
            ours.backward(dy)

    def their_pass() -> None:
        theirs.zero_grad()
        leaf.grad = None
        theirs(leaf).backward(dy)

    return compare(name, our_pass, their_pass, pairs)


def loss_case(classes: int, pairs: int) -> Row:
    """The loss and its gradient with respect to the logits."""
    logits, target = torch.randn(TOKENS, classes), torch.randint(0, classes, (TOKENS,))
    leaf = logits.clone().requires_grad_()
    ours, theirs = CrossEntropyLoss(), torch.nn.CrossEntropyLoss()

    def our_pass() -> None:
        with record():
            ours(logits, target)
            ours.backward()

    def their_pass() -> None:
        leaf.grad = None
        theirs(leaf, target).backward()

    return compare(f"cross-entropy {TOKENS} x {classes:,} classes", our_pass, their_pass, pairs)


def embedding_cases(rows: int, width: int, pairs: int) -> list[Row]:
    """The look-up and its gradient, and the gradient alone; 8,192 tokens."""
    indices = torch.randint(0, rows, (32, 256))
    dy = torch.randn(32, 256, width)
    ours, theirs = Embedding(rows, width), torch.nn.Embedding(rows, width)

    def our_backward() -> None:
        embedding_backward(dy, indices, ours.weight)

    def their_backward() -> None:
        torch.ops.aten.embedding_dense_backward(dy, indices, rows, -1, False)

    name = f"embedding {rows:,} x {width}"
    with torch.no_grad():
        alone = compare(f"{name}, backward alone", our_backward, their_backward, pairs)
    return [layer_case(name, ours, theirs, indices, pairs), alone]


def rows(pairs: int) -> Iterator[Row]:
    for size in ((5_000, 64), (50_000, 64), (5_000, WIDTH), (50_000, WIDTH)):
        yield from embedding_cases(*size, pairs)
    yield loss_case(256, pairs)
    yield loss_case(5_000, pairs)
    x = torch.randn(TOKENS, WIDTH)
    yield layer_case(f"LayerNorm {TOKENS} x {WIDTH}", LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH), x, pairs)
    yield layer_case(f"GELU {TOKENS} x {WIDTH}", GELU(), torch.nn.GELU(), x, pairs)
    yield layer_case(f"GELU tanh {TOKENS} x {WIDTH}", GELU("tanh"), torch.nn.GELU("tanh"), x, pairs)
    yield layer_case(f"ReLU {TOKENS} x {WIDTH}", ReLU(), torch.nn.ReLU(), x, pairs)
    yield layer_case(f"dropout {TOKENS} x {WIDTH}", Dropout(0.1), torch.nn.Dropout(0.1), x, pairs)
    yield layer_case(f"softmax {TOKENS} x {WIDTH}", Softmax(-1), torch.nn.Softmax(-1), x, pairs)
    scores = torch.randn(8, 6, 256, 256)
    yield layer_case("softmax 8 x 6 x 256 x 256", Softmax(-1), torch.nn.Softmax(-1), scores, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=30, help="A B pairs for each case")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compiled", action="store_true", help="with compile_pairs(True)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    compile_pairs(options.compiled)
    print(f"float32, {options.threads} thread(s), forward + backward{', pairs compiled' * options.compiled}")
    print_table(rows(options.pairs))


if __name__ == "__main__":
    main()
