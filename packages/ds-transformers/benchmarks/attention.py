"""Attention alone, forward and backward, against PyTorch's fused kernel: time, and peak memory over the length."""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from ds_core import no_record
from ds_transformers import attention, attention_backward, tiled_attention, tiled_attention_backward
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table

PAIRS = {"vectorized": (attention, attention_backward), "tiled": (tiled_attention, tiled_attention_backward)}

# (batch, heads, length, width of a head), and how many pairs of measurements that is worth
CASES = [
    ((12, 4, 64, 32), 60),  # the small GPT of the README
    ((8, 6, 128, 64), 30),
    ((8, 6, 256, 64), 30),
    ((4, 6, 512, 64), 20),
    ((2, 6, 1024, 64), 15),
    ((1, 6, 2048, 64), 9),
    ((1, 4, 4096, 64), 7),
]


def passes(
    sizes: tuple[int, ...], implementation: str, causal: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One forward and backward of ours and of PyTorch's on the same numbers."""
    query, key, value, dout = torch.randn(4, *sizes)
    leaves = [tensor.clone().requires_grad_() for tensor in (query, key, value)]
    forward, backward = PAIRS[implementation]

    def ours() -> object:
        with no_record():
            output, kept = forward(query, key, value, causal=causal)
            return backward(dout, query, key, value, output, kept, causal=causal)

    def theirs() -> object:
        for leaf in leaves:
            leaf.grad = None
        scaled_dot_product_attention(*leaves, is_causal=causal).backward(dout)
        return [leaf.grad for leaf in leaves]

    for one, other in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    return ours, theirs


def rows(options: argparse.Namespace) -> Iterator[Row]:
    for causal in (False, True) if options.full else (True,):
        for sizes, pairs in CASES:
            if sizes[2] in options.lengths:
                for implementation in PAIRS:
                    name = (
                        f"{'causal' if causal else 'full'} T={sizes[2]}, B H = {sizes[0] * sizes[1]}, {implementation}"
                    )
                    yield compare(name, *passes(sizes, implementation, causal), options.pairs or pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="*", default=[sizes[2] for sizes, _ in CASES])
    parser.add_argument("--pairs", type=int, help="A B pairs for each case")
    parser.add_argument("--full", action="store_true", help="also without the causal mask")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"float32, {options.threads} thread(s), against scaled_dot_product_attention with autograd")
    print_table(rows(options))


if __name__ == "__main__":
    main()
