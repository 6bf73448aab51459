"""A training step of the whole Transformer (forward, loss, backward, clipping, AdamW) against torch.nn: time, memory.

hatch run bench transformer -- [--layers 3 --width 384 --batch 8 --source 128 --target 128 --pairs 10] [--compile]

`--compile` adds the whole step of ours compiled, against the same eager torch.nn (compiling takes minutes).
"""

import argparse
import sys
from pathlib import Path

import torch
from ds_core import AdamW, TokenCrossEntropy, clip_grad_norm_, compile_pairs, compile_step, record
from ds_transformers import Seq2SeqConfig, Seq2SeqTransformer

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table
from torch_seq2seq import TorchSeq2Seq

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.01}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    sizes = [
        ("layers", 3),
        ("heads", 6),
        ("width", 384),
        ("batch", 8),
        ("source", 128),
        ("target", 128),
        ("vocab", 256),
    ]
    for name, default in sizes:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--post-norm", action="store_true")
    parser.add_argument("--implementations", nargs="*", default=["vectorized", "tiled"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args()
    config = Seq2SeqConfig(
        *(o.vocab, o.vocab, o.width, o.heads, 4 * o.width, o.layers, o.layers, o.dropout), norm_first=not o.post_norm
    )
    source = torch.randint(3, o.vocab, (o.batch, o.source), device=o.device)
    target = torch.randint(3, o.vocab, (o.batch, o.target + 1), device=o.device)
    data = (source, target[:, :-1].contiguous(), target[:, 1:].contiguous())
    name = f"{o.layers} + {o.layers} x {o.width}, batch {o.batch}, {o.source} and {o.target} tokens"
    twin = TorchSeq2Seq(config).to(o.device)
    twin.load_state_dict(Seq2SeqTransformer(config).state_dict())
    theirs = torch_step(twin, *data)
    for implementation in o.implementations:
        model = Seq2SeqTransformer(config, implementation=implementation).to(o.device)
        print_table([compare(f"{name}, {implementation}", our_step(model, *data), theirs, o.pairs)])
    compile_pairs(True)
    model = Seq2SeqTransformer(config, implementation=o.implementations[0]).to(o.device)
    print_table([compare(f"{name}, {o.implementations[0]}, pairs compiled", our_step(model, *data), theirs, o.pairs)])
    compile_pairs(False)
    if o.compile:
        model = Seq2SeqTransformer(config, implementation=o.implementations[0]).to(o.device)
        ours = our_step(model, *data, compiled=True)
        print_table([compare(f"{name}, {o.implementations[0]}, step compiled", ours, theirs, o.pairs)])


def our_step(model, source, target, following, compiled=False):
    optimizer = AdamW(model.parameters(), **SETTINGS)
    criterion = TokenCrossEntropy(ignore_index=0)
    if compiled:
        whole = compile_step(model, criterion, optimizer, clip_norm=1.0)
        return lambda: whole([((source, target), following)])

    def step():
        with record():
            loss = criterion(model(source, target), following)
            model.backward(criterion.backward())
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def torch_step(model, source, target, following):
    optimizer = torch.optim.AdamW(model.parameters(), **SETTINGS)

    def step():
        logits = model(source, target)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


if __name__ == "__main__":
    main()
