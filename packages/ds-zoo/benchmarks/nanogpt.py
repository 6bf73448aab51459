"""A whole training run beside the same run with torch.nn: losses and times. By default nanoGPT's CPU recipe.

python benchmarks/nanogpt.py --text FILE [--steps 100] [--seeds 0 1 2] [--preset demo] [--compile step] [--plain]

Both sides get the same initial weights, batches, learning rates and evaluations, in the same order, each in a process
of its own, set up as `ds train` sets itself up (docs/process_settings.md of ds-core); with `--plain` torch.nn's is a
plain script's. They advance in turn, fifty steps each, so that whatever else the machine does slows both. Ours writes
neither checkpoints nor a log, as the other side does not.
"""

import argparse
import math
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from ds_core.options import build_options
from ds_core.training.process_settings import dedicate_process
from ds_zoo.minigpt import RandomBlocks, consecutive_blocks
from ds_zoo.minigpt.options import PRESETS, MiniGPTOptions
from ds_zoo.minigpt.run import MiniGPTRun, whole_loss
from torch.multiprocessing import get_context
from torch_gpt import TorchGPT, adamw

CPU = torch.device("cpu")
TURN = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path, help="a UTF-8 text file; default: the Python standard library")
    parser.add_argument("--steps", type=int, help="default: the preset's, 2000 for the published recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", choices=["default", *PRESETS], default="nanogpt-cpu")
    parser.add_argument("--compile", choices=["none", "pairs", "step"], default="none")
    parser.add_argument(
        "--plain", action="store_true", help="torch.nn's process is not set up as `ds train` sets up ours"
    )
    o = parser.parse_args()
    results = []
    for seed in o.seeds:
        given = {"text": o.text, "seed": seed, "preset": o.preset, "compile": o.compile, "device": "cpu"}
        given |= {} if o.steps is None else {"steps": o.steps}
        results.append(compare(build_options(MiniGPTOptions, given), not o.plain))
        (loss, batches, seconds), (their_loss, their_batches, their_seconds) = results[-1]
        print(
            f"seed {seed}: ours {loss:.4f} whole split, {batches:.4f} on the evaluation batches, {seconds:.1f} s; "
            f"torch.nn {their_loss:.4f}, {their_batches:.4f}, {their_seconds:.1f} s",
            flush=True,
        )
    ours, theirs = zip(*results, strict=True)
    steps = MiniGPTOptions(preset=o.preset).steps if o.steps is None else o.steps
    setting = "a plain process for torch.nn" if o.plain else "both processes as `ds train` sets them up"
    print(f"\n{o.preset}, {steps} steps, mean of {len(o.seeds)} seed(s), {setting}\n{'':44}     ours torch.nn")
    for index, name in enumerate(["loss over the whole split", "loss on evaluation batches", "seconds"]):
        print(
            f"{name:44} {statistics.mean(r[index] for r in ours):8.4f} {statistics.mean(r[index] for r in theirs):8.4f}"
        )


def compare(options, alike):
    """-> (whole loss, loss on the evaluation batches, seconds) of ours, and of torch.nn."""
    sides = [Side(OurTrainer, options, True), Side(TorchTrainer, options, alike)]
    for done in range(TURN, options.steps + TURN, TURN):
        step = min(done, options.steps)
        for side in sides:
            side.timed("fit", step)
        if step % options.evaluate_every == 0 or step == options.steps:
            on_batches, their_on_batches = [side.timed("evaluate") for side in sides]
            print(f"step {step}: {on_batches:.4f}, torch.nn {their_on_batches:.4f}", flush=True)
    return [
        (side.ask("whole_loss"), on_batches, side.seconds)
        for side, on_batches in zip(sides, (on_batches, their_on_batches), strict=True)
    ]


class Side:
    """A trainer in a process of its own, and how long it has taken."""

    def __init__(self, kind, options, dedicated):
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, kind, options, dedicated), daemon=True)
        self.process.start()
        self.seconds = 0.0
        self.ask("ready")

    def ask(self, method, *arguments):
        self.connection.send((method, arguments))
        return self.connection.recv()

    def timed(self, method, *arguments):
        began = time.perf_counter()
        result = self.ask(method, *arguments)
        self.seconds += time.perf_counter() - began
        return result


def serve(connection, kind, options, dedicated):
    """What a side's process does: make the trainer, then what it is asked for."""
    if dedicated:
        dedicate_process()
    run = MiniGPTRun(options)
    run.folder = None
    run.prepare()
    trainer = kind(run)
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:  # the other end has all it wanted
            return
        connection.send(None if method == "ready" else getattr(trainer, method)(*arguments))


class OurTrainer:
    """`ds train` without a folder."""

    def __init__(self, run):
        self.model, self.corpus, self.trainer, self.batches = run.model, run.data, run.trainer, run.batches
        self.trainer.evaluate, self.mean_loss = None, self.trainer.evaluate
        self.trainer.callbacks.clear()

    def fit(self, steps):
        self.trainer.fit(self.batches, steps)

    def evaluate(self):
        self.model.eval()
        with torch.no_grad():
            return float(self.mean_loss(self.model)["loss"])

    def whole_loss(self):
        return whole_loss(self.model, self.corpus.validation, CPU)


class TorchTrainer:
    """nanoGPT's training loop: torch.nn, autograd, torch.optim."""

    def __init__(self, run):
        self.options, self.model, self.corpus = run.options, TorchGPT.like(run.model), run.data
        options, corpus, self.batches = run.options, run.data, run.batches
        self.optimizer = adamw(self.model, options.weight_decay, lr=options.lr, betas=(options.beta1, options.beta2))
        self.validation = RandomBlocks(corpus.validation, options.block_size, options.batch_size, 2 * options.seed + 1)
        self.step = 0

    def fit(self, steps):
        self.model.train()
        while self.step < steps:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            inputs, targets = self.batches.batch(self.step)
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
