"""A training step of a BERT (forward, loss, backward, clipping, AdamW) against transformers': time and peak memory.

python benchmarks/bert.py [--num-layers 4 --embed-dim 256 --batch 16 --length 128] [--compile] [--dropout 0.1]

`--compile` adds the whole step of ours compiled, against the same eager transformers (compiling takes a minute).
`--large` is one step of BERT-base's shapes instead: 110 million parameters, of which a batch of two texts is enough.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from ds_core import AdamW, clip_grad_norm_, compile_pairs, compile_step, record
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import MiniBERT
from ds_zoo.minibert.masking import IGNORED

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.98)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-layers", type=int, default=4)
    parser.add_argument("--num-heads", type=int, default=4)
    parser.add_argument("--embed-dim", type=int, default=256)
    parser.add_argument("--vocab-size", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--implementation", choices=["vectorized", "tiled"], default=None)
    parser.add_argument("--padding", action="store_true", help="half of the texts are a quarter shorter")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--compile", action="store_true", help="also the whole step compiled, and the pairs compiled")
    parser.add_argument("--large", action="store_true", help="BERT-base's shapes, two texts of 128 tokens")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.large:
        given.num_layers, given.num_heads, given.embed_dim, given.vocab_size, given.batch = 12, 12, 768, 30522, 2
    theirs = their_model(given)
    batch = their_batch(given)
    sizes = f"{given.num_layers} x {given.embed_dim}, {given.batch} x {given.length}"
    parameters = sum(tensor.numel() for tensor in theirs.parameters())
    print(f"{parameters:,} parameters, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    rows = [compare(f"bert {sizes}", our_step(theirs, given, batch), their_step(theirs, batch), given.pairs)]
    if given.compile:
        compile_pairs(True)
        rows.append(compare("pairs compiled", our_step(theirs, given, batch), their_step(theirs, batch), given.pairs))
        compile_pairs(False)
        whole = our_step(theirs, given, batch, compiled=True)
        rows.append(compare("step compiled", whole, their_step(theirs, batch), given.pairs))
    print_table(rows)


def their_model(given: argparse.Namespace) -> torch.nn.Module:
    config = transformers.BertConfig(
        vocab_size=given.vocab_size,
        hidden_size=given.embed_dim,
        num_hidden_layers=given.num_layers,
        num_attention_heads=given.num_heads,
        intermediate_size=4 * given.embed_dim,
        max_position_embeddings=max(given.length, 512 if given.large else 0),
        hidden_dropout_prob=given.dropout,
        attention_probs_dropout_prob=given.dropout,
    )
    torch.manual_seed(0)
    return transformers.BertForMaskedLM(config).train()


def their_batch(given: argparse.Namespace) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, given.vocab_size, (given.batch, given.length), generator=draw)
    labels = torch.where(torch.rand(ids.shape, generator=draw) < 0.15, ids, IGNORED)
    batch = {"input_ids": ids, "labels": labels}
    if given.padding:
        mask = torch.ones_like(ids)
        mask[::2, 3 * given.length // 4 :] = 0
        batch["attention_mask"] = mask
    return batch


def our_step(theirs, given, batch, compiled=False):
    """One training step of ours, with their weights."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        shown, sys.stderr = sys.stderr, nowhere
        try:
            theirs.save_pretrained(folder)
        finally:
            sys.stderr = shown
        model = MiniBERT.from_pretrained(folder, implementation=given.implementation)
    model.train()
    criterion = model.criterion()
    optimizer = AdamW(decay_groups(model, 0.1), weight_decay=0.0, **SETTINGS)
    inputs, labels = (batch["input_ids"], batch.get("attention_mask")), batch["labels"]
    if compiled:
        whole = compile_step(model, criterion, optimizer, clip_norm=1.0)
        return lambda: whole([(inputs, labels)])

    def step():
        with record():
            loss = criterion(model(*inputs), labels)
            model.backward(criterion.backward(), input_gradient=False)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def their_step(model, batch):
    groups = [
        {"params": [tensor for tensor in model.parameters() if tensor.dim() >= 2], "weight_decay": 0.1},
        {"params": [tensor for tensor in model.parameters() if tensor.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, **SETTINGS)

    def step():
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


if __name__ == "__main__":
    main()
