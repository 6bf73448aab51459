"""Forward and backward of single layers, ours against torch.nn with autograd: python benchmarks/layers.py --help."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ds_core
import torch
from ds_core import Embedding, Softmax, compile_pairs, record
from ds_core.layers.embedding import embedding_backward

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

TOKENS, WIDTH = 2048, 384  # batch 8 of 256 tokens, 384 wide
# Each beside its twin of the same name and arguments, on TOKENS x WIDTH numbers
LAYERS: list[tuple[str, tuple[Any, ...]]] = [
    ("Linear", (WIDTH, WIDTH)),
    ("LayerNorm", (WIDTH,)),
    ("RMSNorm", (WIDTH,)),
    ("BatchNorm1d", (WIDTH,)),
    ("GroupNorm", (8, WIDTH)),
    ("Dropout", (0.1,)),
    ("AlphaDropout", (0.1,)),
    ("GELU", ()),
    ("GELU", ("tanh",)),
    *[
        (name, ())
        for name in [
            "ReLU",
            "ReLU6",
            "LeakyReLU",
            "PReLU",
            "ELU",
            "SELU",
            "CELU",
            "SiLU",
            "Mish",
            "Sigmoid",
            "LogSigmoid",
        ]
    ],
    *[(name, ()) for name in ["Hardsigmoid", "Hardswish", "Hardtanh", "Tanh", "Softplus", "Softsign", "GLU"]],
    *[(name, (-1,)) for name in ("Softmax", "LogSoftmax", "Softmin")],
]
LOSSES = [
    "MSELoss",
    "L1Loss",
    "SmoothL1Loss",
    "HuberLoss",
    "KLDivLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "SoftMarginLoss",
]


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


def loss_case(name: str, ours: Any, theirs: Any, x: torch.Tensor, target: torch.Tensor, pairs: int) -> Row:
    """The loss and its gradient with respect to the predictions."""
    leaf = x.clone().requires_grad_()

    def our_pass() -> None:
        with record():
            ours(x, target)
            ours.backward()

    def their_pass() -> None:
        leaf.grad = None
        theirs(leaf, target).backward()

    return compare(name, our_pass, their_pass, pairs)


def class_loss_cases(classes: int, pairs: int) -> list[Row]:
    x, target = torch.randn(TOKENS, classes), torch.randint(0, classes, (TOKENS,))
    return [
        loss_case(
            f"{name} {TOKENS} x {classes:,}", getattr(ds_core, name)(), getattr(torch.nn, name)(), x, target, pairs
        )
        for name in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
        if name == "CrossEntropyLoss" or classes < 1000
    ]


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
    yield from class_loss_cases(256, pairs)
    yield from class_loss_cases(5_000, pairs)
    x = torch.randn(TOKENS, WIDTH)
    for name, arguments in LAYERS:
        shown = f"{name}({', '.join(map(repr, arguments))})"
        yield layer_case(shown, getattr(ds_core, name)(*arguments), getattr(torch.nn, name)(*arguments), x, pairs)
    for name in LOSSES:
        target = torch.rand(TOKENS, WIDTH)
        if name == "SoftMarginLoss":
            target = target.round() * 2 - 1
        given = torch.rand(TOKENS, WIDTH) if name == "BCELoss" else x
        yield loss_case(name, getattr(ds_core, name)(), getattr(torch.nn, name)(), given, target, pairs)
    scores = torch.randn(8, 6, 256, 256)
    yield layer_case("Softmax(-1) 8 x 6 x 256 x 256", Softmax(-1), torch.nn.Softmax(-1), scores, pairs)


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
