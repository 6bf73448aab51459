"""Generating with a key/value cache against torch.nn with the same cache, after texts of several lengths.

python benchmarks/generation.py [--num-layers 6 --embed-dim 384 --tokens 32 --pairs 20]
"""

import argparse
import sys
from pathlib import Path

import torch
from ds_core.text.sampling import draw
from ds_zoo import MiniGPT, MiniGPTConfig, generate

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table
from torch_gpt import Cache, TorchGPT


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in [
        ("num-layers", 6),
        ("num-heads", 6),
        ("embed-dim", 384),
        ("vocab", 256),
        ("tokens", 32),
        ("pairs", 20),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    o = parser.parse_args()
    rows = []
    for before in (1, 96, 224, 992):
        config = MiniGPTConfig(o.vocab, before + o.tokens, o.num_layers, o.num_heads, o.embed_dim, dropout=0.0)
        model = MiniGPT(config).eval()
        twin = TorchGPT.like(model).eval()
        prompt = torch.randint(o.vocab, (before,), generator=torch.Generator().manual_seed(0))
        assert ours(model, prompt, o.tokens) == theirs(twin, prompt, o.tokens)
        rows.append(
            compare(
                f"GPT {o.num_layers} x {o.embed_dim}, {o.tokens} tokens after {before}",
                lambda m=model, p=prompt: ours(m, p, o.tokens),
                lambda m=twin, p=prompt: theirs(m, p, o.tokens),
                o.pairs,
            )
        )
    print_table(rows)
    print(f"(times are for all {o.tokens} tokens, reading the text before them included)")


def ours(model, prompt, count):
    return list(generate(model, prompt, count, temperature=0.8, seed=0))


def theirs(model, prompt, count):
    """The same loop around torch.nn: caches written in place, the head on the last row only, the same draws."""
    cache = [Cache(model.config) for _ in model.h]
    generator = torch.Generator().manual_seed(0)
    tokens, new = [], prompt[None]
    for _ in range(count):
        with torch.inference_mode():
            logits = model(new, cache, last_only=True)[0, -1]
        tokens.append(draw(logits, 0.8, generator=generator))
        new = torch.tensor([[tokens[-1]]])
    return tokens


if __name__ == "__main__":
    main()
