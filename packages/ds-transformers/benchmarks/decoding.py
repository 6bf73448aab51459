"""One token through a stack of blocks with a key/value cache, against torch.nn with the same cache."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from ds_core import GELU, LayerNorm, no_record
from ds_transformers import FeedForward, KeyValueCache, PreNormBlock, SelfAttention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import Row, compare, print_table


class TorchBlock(torch.nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.in_proj, self.out_proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.linear1, self.linear2 = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.activation = torch.nn.GELU("tanh")

    def forward(self, x: Tensor, cache: KeyValueCache) -> Tensor:
        batch, time, width = x.shape
        query, key, value = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.in_proj(self.norm1(x)).split(width, 2)
        )
        key, value = cache.append(key, value)
        output = scaled_dot_product_attention(query, key, value, is_causal=time > 1)
        x = x + self.out_proj(output.transpose(1, 2).reshape(batch, time, width))
        return x + self.linear2(self.activation(self.linear1(self.norm2(x))))


def our_block(width: int, heads: int) -> PreNormBlock:
    feed_forward = FeedForward(width, 4 * width, GELU("tanh"))
    attention = SelfAttention(width, heads, causal=True)
    return PreNormBlock(attention, feed_forward, norm1=LayerNorm(width), norm2=LayerNorm(width))


def same_weights(theirs: TorchBlock, ours: PreNormBlock) -> None:
    state = ours.state_dict()
    state = {
        name.replace("attention.in_proj_", "in_proj.").replace("attention.", "").replace("feed_forward.", ""): tensor
        for name, tensor in state.items()
    }
    theirs.load_state_dict(state)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    width, heads = options.width, options.heads
    blocks = [our_block(width, heads).eval() for _ in range(options.layers)]
    twins = [TorchBlock(width, heads).eval() for _ in blocks]
    for block, twin in zip(blocks, twins, strict=True):
        same_weights(twin, block)
    for before in options.before:
        sizes = (options.batch, heads, before + 1, width // heads)
        caches, twin_caches = ([KeyValueCache(*sizes) for _ in blocks] for _ in range(2))
        text, token = torch.randn(options.batch, before, width), torch.randn(options.batch, 1, width)

        def ours(x: Tensor = token, caches: list[KeyValueCache] = caches, keep: int | None = before) -> Tensor:
            with no_record():
                for block, cache in zip(blocks, caches, strict=True):
                    x = block(x, cache=cache)
                    cache.truncate(cache.length if keep is None else keep)
            return x

        def theirs(x: Tensor = token, caches: list[KeyValueCache] = twin_caches, keep: int | None = before) -> Tensor:
            with torch.inference_mode():
                for twin, cache in zip(twins, caches, strict=True):
                    x = twin(x, cache)
                    cache.truncate(cache.length if keep is None else keep)
            return x

        ours(text, keep=None)
        theirs(text, keep=None)
        torch.testing.assert_close(ours(), theirs(), rtol=1e-3, atol=1e-4)
        name = f"{options.layers} x {width} wide, batch {options.batch}, token after {before}"
        yield compare(name, ours, theirs, options.pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in [("layers", 6), ("heads", 6), ("width", 384), ("batch", 1), ("pairs", 50)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--before", type=int, nargs="*", default=[0, 63, 255, 1023, 4095], help="tokens in the cache")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"float32, {options.threads} thread(s), for one token; the text before it has been read")
    print_table(rows(options))


if __name__ == "__main__":
    main()
