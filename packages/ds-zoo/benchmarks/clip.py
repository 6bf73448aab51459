"""A training step of a CLIP (forward, contrastive loss, backward, clipping, AdamW) against transformers' CLIPModel.

python benchmarks/clip.py [--batch 32 --pairs 10] [--compile]

`--compile` adds the whole step of ours compiled, against the same eager CLIPModel (compiling takes a minute).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from ds_core import AdamW, clip_grad_norm_, compile_pairs, compile_step, record
from ds_zoo import ContrastiveLoss, MiniCLIP, MiniCLIPConfig, TextConfig, VisionConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from paired import compare, print_table

SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.1}
SMALL = MiniCLIPConfig(
    TextConfig(128, 2, 4, 512, vocab_size=64, max_length=32, end_token=63, begin_token=62, pad_token=63),
    VisionConfig(192, 6, 6, 768, image_size=64, patch_size=8),
    projection_dim=64,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args()
    torch.manual_seed(0)
    model = MiniCLIP(SMALL, device=o.device)
    inputs = make_inputs(SMALL, o.batch, o.device)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = torch_step(transformers.CLIPModel.from_pretrained(folder).to(o.device).train(), inputs)
    name = f"CLIP 6 x 192 and 2 x 128, batch {o.batch}"
    print_table([compare(name, our_step(model, inputs), theirs, o.pairs)])
    compile_pairs(True)
    print_table([compare(f"{name}, pairs compiled", our_step(model, inputs), theirs, o.pairs)])
    compile_pairs(False)
    if o.compile:
        print_table([compare(f"{name}, step compiled", our_step(model, inputs, compiled=True), theirs, o.pairs)])


def make_inputs(config, batch, device):
    input_ids = torch.randint(config.text.vocab_size - 2, (batch, config.text.max_length), device=device)
    input_ids[:, config.text.max_length // 2] = config.text.end_token
    size = config.vision.image_size
    return input_ids, torch.randn(batch, config.vision.num_channels, size, size, device=device)


def our_step(model, inputs, compiled=False):
    optimizer, criterion = AdamW(model.parameters(), **SETTINGS), ContrastiveLoss()
    if compiled:
        whole = compile_step(model, criterion, optimizer, clip_norm=1.0)
        return lambda: whole([(inputs, None)])

    def step():
        with record():
            loss = criterion(model(*inputs))
            model.backward(criterion.backward(), input_gradient=False)
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def torch_step(model, inputs):
    optimizer = torch.optim.AdamW(model.parameters(), **SETTINGS)

    def step():
        loss = model(input_ids=inputs[0], pixel_values=inputs[1], return_loss=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


if __name__ == "__main__":
    main()
