"""A whole training run beside the same run with torch.nn: losses and times. By default nanoGPT's CPU recipe.

python benchmarks/nanogpt.py --text FILE [--steps 2000] [--seeds 0 1 2] [--preset demo] [--compile step]

Both sides get the same initial weights, batches, learning rates and evaluations, in the same order. The two runs of a
seed advance in turn, fifty steps each, so that whatever else the machine does slows both alike; each has its own clock.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from ds_core.compiled import compile_pairs
from ds_core.options import build_options
from ds_zoo.minigpt.batches import RandomBlocks, consecutive_blocks
from ds_zoo.minigpt.corpus import read_corpus
from ds_zoo.minigpt.options import PRESETS, TrainOptions
from ds_zoo.minigpt.training import build_model, build_trainer, whole_loss
from torch_gpt import TorchGPT, adamw

CPU = torch.device("cpu")
TURN = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path, help="a UTF-8 text file; default: the Python standard library")
    parser.add_argument("--steps", type=int, default=100, help="2000 is the published recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="nanogpt-cpu")
    parser.add_argument("--compile", choices=["none", "pairs", "step"], default="none")
    o = parser.parse_args()
    results = []
    for seed in o.seeds:
        given = {"text": o.text, "steps": o.steps, "seed": seed, "preset": o.preset, "compile": o.compile}
        results.append(compare(build_options(TrainOptions, given)))
        (loss, batches, seconds), (their_loss, their_batches, their_seconds) = results[-1]
        print(
            f"seed {seed}: ours {loss:.4f} whole split, {batches:.4f} on the evaluation batches, {seconds:.1f} s; "
            f"torch.nn {their_loss:.4f}, {their_batches:.4f}, {their_seconds:.1f} s",
            flush=True,
        )
    ours, theirs = zip(*results, strict=True)
    print(f"\n{o.preset}, {o.steps} steps, mean of {len(o.seeds)} seed(s)   ours   torch.nn")
    for index, name in enumerate(["loss over the whole split", "loss on evaluation batches", "seconds"]):
        print(
            f"{name:44} {statistics.mean(r[index] for r in ours):8.4f} {statistics.mean(r[index] for r in theirs):8.4f}"
        )


def compare(options):
    """-> (whole loss, loss on the evaluation batches, seconds) of ours, and of torch.nn."""
    corpus = read_corpus(options)
    torch.manual_seed(options.seed)
    compile_pairs(options.compile == "pairs")
    model = build_model(options, corpus.tokenizer.vocab_size)
    twin = TorchTrainer(options, TorchGPT.like(model), corpus)
    trainer = build_trainer(options, model, corpus, None, CPU)
    batches = RandomBlocks(corpus.training, options.block_size, options.batch_size, 2 * options.seed)
    trainer.evaluate, evaluate = None, trainer.evaluate
    trainer.callbacks.clear()
    seconds = {"ours": 0.0, "theirs": 0.0}

    def timed(side, run):
        began = time.perf_counter()
        result = run()
        seconds[side] += time.perf_counter() - began
        return result

    for done in range(TURN, options.steps + TURN, TURN):
        step = min(done, options.steps)
        timed("ours", lambda step=step: trainer.fit(batches, step))
        timed("theirs", lambda step=step: twin.fit(batches, step))
        if step % options.evaluate_every == 0 or step == options.steps:
            model.eval()
            with torch.no_grad():
                on_batches = timed("ours", lambda: evaluate(model)["loss"])
            their_on_batches = timed("theirs", twin.evaluate)
            print(f"step {step}: {on_batches:.4f}, torch.nn {their_on_batches:.4f}", flush=True)
    ours = (whole_loss(model, corpus.validation, CPU), on_batches, seconds["ours"])
    return ours, (twin.whole_loss(), their_on_batches, seconds["theirs"])


class TorchTrainer:
    """nanoGPT's training loop: torch.nn, autograd, torch.optim."""

    def __init__(self, options, model, corpus):
        self.options, self.model, self.corpus = options, model, corpus
        self.optimizer = adamw(model, options.weight_decay, lr=options.lr, betas=(options.beta1, options.beta2))
        self.validation = RandomBlocks(corpus.validation, options.block_size, options.batch_size, 2 * options.seed + 1)
        self.step = 0

    def fit(self, batches, steps):
        self.model.train()
        while self.step < steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            inputs, targets = batches.batch(self.step)
            loss = F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())
            loss.backward()
            if self.options.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            float(loss.detach())

    def learning_rate(self):
        o = self.options
        if self.step < o.warmup_steps:
            return o.lr * (self.step + 1) / (o.warmup_steps + 1)
        share = (self.step - o.warmup_steps) / max(1, o.steps - o.warmup_steps)
        return o.min_lr + 0.5 * (1 + math.cos(math.pi * share)) * (o.lr - o.min_lr)

    def evaluate(self):
        return self.mean_loss(map(self.validation.batch, range(self.options.evaluate_batches)))

    def whole_loss(self):
        return self.mean_loss(consecutive_blocks(self.corpus.validation, self.options.block_size, 64))

    @torch.no_grad()
    def mean_loss(self, batches):
        self.model.eval()
        total = count = 0
        for inputs, targets in batches:
            total += float(F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten(), reduction="sum"))
            count += targets.numel()
        return total / count


if __name__ == "__main__":
    main()
