"""A training step of a GPT (forward, loss, backward, clipping, AdamW) against torch.nn: time and peak memory.

python benchmarks/gpt.py [--num-layers 6 --embed-dim 384 --batch 8 --block 256 --pairs 10] [--compile] [--dropout 0.1]

`--compile` adds the whole step of ours compiled, against the same eager torch.nn (compiling takes a minute).
"""

import argparse
import sys
from pathlib import Path

import torch
from ds_core import AdamW, clip_grad_norm_, compile_pairs, compile_step, record
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import MiniGPT, MiniGPTConfig, TokenCrossEntropy

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table
from torch_gpt import TorchGPT, adamw

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in [
        ("num-layers", 6),
        ("num-heads", 6),
        ("embed-dim", 384),
        ("batch", 8),
        ("block", 256),
        ("vocab", 256),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--implementations", nargs="*", default=["vectorized", "tiled"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args()
    config = MiniGPTConfig(o.vocab, o.block, o.num_layers, o.num_heads, o.embed_dim, dropout=o.dropout)
    tokens = torch.randint(o.vocab, (o.batch, o.block + 1), device=o.device)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    name = f"GPT {o.num_layers} x {o.embed_dim}, batch {o.batch}, {o.block} tokens"
    theirs = torch_step(TorchGPT(config).to(o.device), inputs, targets)
    for implementation in o.implementations:
        ours = our_step(MiniGPT(config, implementation=implementation).to(o.device), inputs, targets)
        print_table([compare(f"{name}, {implementation}", ours, theirs, o.pairs)])
    compile_pairs(True)
    implementation = o.implementations[-1]
    ours = our_step(MiniGPT(config, implementation=implementation).to(o.device), inputs, targets)
    print_table([compare(f"{name}, {implementation}, pairs compiled", ours, theirs, o.pairs)])
    compile_pairs(False)
    if o.compile:
        for implementation in o.implementations:
            ours = our_step(MiniGPT(config, implementation=implementation).to(o.device), inputs, targets, compiled=True)
            print_table([compare(f"{name}, {implementation}, step compiled", ours, theirs, o.pairs)])


def our_step(model, inputs, targets, compiled=False):
    optimizer = AdamW(decay_groups(model, 0.1), **SETTINGS)
    criterion = TokenCrossEntropy()
    if compiled:
        whole = compile_step(model, criterion, optimizer, clip_norm=1.0)
        return lambda: whole([(inputs, targets)])

    def step():
        with record():
            loss = criterion(model(inputs), targets)
            model.backward(criterion.backward(), input_gradient=False)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def torch_step(model, inputs, targets):
    optimizer = adamw(model, 0.1, **SETTINGS)

    def step():
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


if __name__ == "__main__":
    main()
