"""A training step of a ViT (forward, loss, backward, clipping, AdamW) against transformers': time and peak memory.

python benchmarks/vit.py [--num-layers 6 --embed-dim 192 --image-size 64 --patch-size 8 --pairs 10] [--compile]

`--compile` adds the whole step of ours compiled, against the same eager transformers (compiling takes a minute).
`--large` is one step of ViT-B/16's shapes instead: 86 million parameters, of which a batch of two images is enough.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from ds_core import AdamW, clip_grad_norm_, compile_pairs, compile_step, record
from ds_core.optimizers.parameter_groups import decay_groups
from ds_zoo import MiniViT

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in [
        ("num-layers", 6),
        ("num-heads", 6),
        ("embed-dim", 192),
        ("image-size", 64),
        ("patch-size", 8),
        ("batch", 16),
        ("pairs", 10),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--implementation", choices=["vectorized", "tiled"], default=None)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--compile", action="store_true", help="also the whole step compiled, and the pairs compiled")
    parser.add_argument("--large", action="store_true", help="ViT-B/16's shapes, two images of 224 x 224")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.large:
        given.num_layers, given.num_heads, given.embed_dim = 12, 12, 768
        given.image_size, given.patch_size, given.batch = 224, 16, 2
    theirs = their_model(given)
    images = torch.randn(given.batch, 3, given.image_size, given.image_size)
    labels = torch.randint(10, (given.batch,))
    tokens = 1 + (given.image_size // given.patch_size) ** 2
    parameters = sum(tensor.numel() for tensor in theirs.parameters())
    print(f"{parameters:,} parameters, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    name = f"vit {given.num_layers} x {given.embed_dim}, {given.batch} x {tokens} tokens"
    reference = their_step(theirs, images, labels)
    rows = [compare(name, our_step(theirs, given, images, labels), reference, given.pairs)]
    if given.compile:
        compile_pairs(True)
        rows.append(compare("pairs compiled", our_step(theirs, given, images, labels), reference, given.pairs))
        compile_pairs(False)
        whole = our_step(theirs, given, images, labels, compiled=True)
        rows.append(compare("step compiled", whole, reference, given.pairs))
    print_table(rows)


def their_model(given):
    config = transformers.ViTConfig(
        hidden_size=given.embed_dim,
        num_hidden_layers=given.num_layers,
        num_attention_heads=given.num_heads,
        intermediate_size=4 * given.embed_dim,
        hidden_dropout_prob=given.dropout,
        attention_probs_dropout_prob=given.dropout,
        image_size=given.image_size,
        patch_size=given.patch_size,
        num_labels=10,
    )
    return transformers.ViTForImageClassification(config).train()


def our_step(theirs, given, images, labels, compiled=False):
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        model = MiniViT.from_pretrained(folder, implementation=given.implementation).train()
    optimizer = AdamW(decay_groups(model, 0.1), **SETTINGS)
    criterion = model.criterion()
    if compiled:
        whole = compile_step(model, criterion, optimizer, clip_norm=1.0)
        return lambda: whole([(images, labels)])

    def step():
        with record():
            loss = criterion(model(images), labels)
            model.backward(criterion.backward(), input_gradient=False)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def their_step(model, images, labels):
    groups = [
        {"params": [tensor for tensor in model.parameters() if tensor.squeeze().dim() >= 2], "weight_decay": 0.1},
        {"params": [tensor for tensor in model.parameters() if tensor.squeeze().dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, **SETTINGS)

    def step():
        loss = model(pixel_values=images, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


if __name__ == "__main__":
    main()
