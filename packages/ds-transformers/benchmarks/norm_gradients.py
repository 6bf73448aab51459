"""The norms of gradients in stacks of blocks at initialisation, post-norm and pre-norm (docs/norms_in_blocks.md).

    python packages/ds-transformers/benchmarks/norm_gradients.py
    python packages/ds-transformers/benchmarks/norm_gradients.py --layers 6 48 --default-weights

A stack reads random vectors and a linear layer behind it guesses a random class of each token; the mean cross-entropy
is gone back through. Printed, as a mean over seeds: the norm of the gradient of all weights of the first, the middle
and the last block, and of the input. Nothing is trained.
"""

import argparse
import math
from typing import Any

import torch
from ds_core import CrossEntropyLoss, LayerNorm, Linear, ReLU, Sequential, record
from ds_core.initializers import xavier_uniform_
from ds_transformers import FeedForward, PreNormBlock, SelfAttention, TransformerEncoderLayer

BATCH, TIME, WIDTH, HEADS, HIDDEN, CLASSES = 4, 32, 128, 4, 512, 100


def pre_norm(layers: int) -> list[Any]:
    return [
        PreNormBlock(
            SelfAttention(WIDTH, HEADS),
            FeedForward(WIDTH, HIDDEN, ReLU()),
            norm1=LayerNorm(WIDTH),
            norm2=LayerNorm(WIDTH),
        )
        for _ in range(layers)
    ]


def post_norm(layers: int) -> list[Any]:
    return [
        TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True, norm_first=False)
        for _ in range(layers)
    ]


def gradient_norms(order: str, layers: int, xavier: bool) -> list[float]:
    """Of the weights of the first, the middle and the last block, and of the input."""
    blocks = post_norm(layers) if order == "post" else pre_norm(layers)
    if xavier:
        for block in blocks:
            draw_xavier(block)
    # the pre-norm stack ends in a norm of its own, as in GPT-2
    behind = [LayerNorm(WIDTH)] if order == "pre" else []
    model, criterion = Sequential(*blocks, *behind, Linear(WIDTH, CLASSES)), CrossEntropyLoss()
    x, classes = torch.randn(BATCH, TIME, WIDTH), torch.randint(CLASSES, (BATCH * TIME,))
    with record():
        criterion(model(x).flatten(0, 1), classes)
        dx = model.backward(criterion.backward().view(BATCH, TIME, CLASSES))
    chosen = (blocks[0], blocks[layers // 2], blocks[-1])
    return [*(norm([w.grad for w in block.parameters() if w.dim() == 2]) for block in chosen), norm([dx])]


def draw_xavier(block: Any) -> None:
    """Uniform weights of variance 2 / (inputs + outputs); query, key and value are three matrices, not one."""
    for name, weight in block.named_parameters():
        if weight.dim() == 2:
            for part in weight.data.chunk(3) if name.endswith("in_proj_weight") else [weight.data]:
                xavier_uniform_(part)


def norm(gradients: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float((gradient * gradient).sum()) for gradient in gradients))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="*", default=[6, 12, 24])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument(
        "--default-weights", action="store_true", help="as torch.nn draws them, smaller than Xavier's of the papers"
    )
    options = parser.parse_args()
    weights = "torch.nn's weights" if options.default_weights else "Xavier's weights"
    print(f"{weights}, mean of {options.seeds} seeds, in thousandths")
    print(f"{'order':5} {'layers':>6}  {'first':>9} {'middle':>9} {'last':>9} {'input':>9}  last / first")
    for order in ("post", "pre"):
        for layers in options.layers:
            found = []
            for seed in range(options.seeds):
                torch.manual_seed(seed)
                found.append(gradient_norms(order, layers, not options.default_weights))
            first, middle, last, into = (1000 * sum(column) / len(column) for column in zip(*found, strict=True))
            print(f"{order:5} {layers:6}  {first:9.2f} {middle:9.2f} {last:9.2f} {into:9.2f}  {last / first:12.2f}")


if __name__ == "__main__":
    main()
