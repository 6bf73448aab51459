"""`ds train minigpt`: a GPT that learns a text."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ds_core import AdamW, Callback, KeepBest, TokenCrossEntropy, Trainer, no_record
from ds_core.atomic_files import write_atomically
from ds_core.metrics import Mean
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.recipes import Run
from ds_core.recipes.choices import make_schedule
from ds_core.training.same_data import SameData
from torch import Tensor

from ds_zoo.minigpt.batches import RandomBlocks, consecutive_blocks
from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.corpus import TOKENIZER_FILE, Corpus, read_corpus
from ds_zoo.minigpt.generate import generate
from ds_zoo.minigpt.model import MiniGPT
from ds_zoo.minigpt.options import MiniGPTOptions

# Different streams of batches from one seed
_TRAINING, _VALIDATION = 0, 1
_SAMPLE_TOKENS = 200


def build_model(options: MiniGPTOptions, vocab_size: int) -> MiniGPT:
    """The model that the options ask for, its weights drawn from the default generator."""
    config = MiniGPTConfig(
        vocab_size,
        block_size=options.block_size,
        num_layers=options.num_layers,
        num_heads=options.num_heads,
        embed_dim=options.embed_dim,
        dropout=options.dropout,
        bias=options.bias,
    )
    return MiniGPT(config)


class MiniGPTRun(Run[MiniGPTOptions, Corpus, MiniGPT]):
    """`ds train minigpt`."""

    name = "minigpt"
    files = ("config.json", "model.safetensors", TOKENIZER_FILE)

    def read_data(self) -> Corpus:
        return read_corpus(self.options)

    def build_model(self) -> MiniGPT:
        return build_model(self.options, self.data.tokenizer.vocab_size)

    def make_batches(self) -> RandomBlocks:
        return self._blocks(self.data.training, _TRAINING)

    def count_steps(self) -> int:
        return self.options.steps

    def make_trainer(self) -> Trainer:
        options = self.options
        optimizer = AdamW(
            decay_groups(self.model, options.weight_decay),
            lr=options.lr,
            betas=(options.beta1, options.beta2),
            weight_decay=0.0,
        )
        schedule = make_schedule(
            "cosine", optimizer, self.steps, warmup_steps=min(options.warmup_steps, self.steps), min_lr=options.min_lr
        )
        validation = self._blocks(self.data.validation, _VALIDATION)
        return Trainer(
            self.model,
            TokenCrossEntropy(),
            optimizer,
            schedule=schedule,
            clip_norm=options.clip_norm or None,
            accumulate=options.accumulate,
            compile=options.compile == "step",
            folder=self.folder,
            evaluate=lambda model: {"loss": mean_loss(model, map(validation.batch, range(options.evaluate_batches)))},
            evaluate_every=options.evaluate_every,
            checkpoint_every=options.checkpoint_every,
            callbacks=[
                SameData(self.data.digest, self.data.source),
                KeepBest(write=lambda trainer: trainer.model.save_pretrained(trainer.folder)),
                *([Samples(self, options.sample_every)] if options.sample_every else []),
            ],
        )

    def describe(self) -> str:
        options, data = self.options, self.data
        return (
            f"MiniGPT with {self.parameter_count:,} parameters ({options.num_layers} layers, {options.embed_dim} wide, "
            f"blocks of {options.block_size}) learns {data.source}: {len(data.training):,} tokens to train on, "
            f"{len(data.validation):,} to validate on, {data.tokenizer.vocab_size} different ones"
        )

    def write_folder(self) -> None:
        write_atomically(self.folder / TOKENIZER_FILE, self.data.tokenizer.to_json())

    def before_training(self) -> None:
        print(f"before training, it writes:\n{self.sample()}\n", flush=True)

    def report(self) -> Mapping[str, Any]:
        loss, tokens = whole_loss(self.model, self.data.validation, self.device), len(self.data.validation) - 1
        print(f"after training, it writes:\n{self.sample()}\n")
        print(f"loss over the whole validation split ({tokens:,} tokens): {loss:.4f} nats a token")
        return {"validation": {"loss": loss, "tokens": tokens}}

    def next_commands(self) -> list[str]:
        prompt = " --prompt 'def '" if self.options.text is None else ""
        return [
            f"generate {self.typed_folder}{prompt}",
            f"train minigpt --out {self.typed_folder} --resume --steps {2 * self.trainer.step}",
            "train minigpt --text FILE --out runs/mine",
        ]

    def sample(self) -> str:
        """What the model writes after the first token of the validation text."""
        prompt, seed = self.data.validation[:1], self.options.seed
        return self.data.tokenizer.decode(generate(self.model, prompt, _SAMPLE_TOKENS, temperature=0.8, seed=seed))

    def _blocks(self, tokens: Tensor, stream: int) -> RandomBlocks:
        options = self.options
        return RandomBlocks(tokens, options.block_size, options.batch_size, 2 * options.seed + stream, self.device)


class Samples(Callback):
    """Shows what the model writes, every so many steps."""

    everywhere = False

    def __init__(self, run: MiniGPTRun, every: int) -> None:
        self.run, self.every = run, every

    def on_step_end(self, trainer: Trainer, metrics: Mapping[str, Any]) -> None:
        if trainer.step % self.every == 0:
            trainer.write(f"after {trainer.step} steps, it writes:\n{self.run.sample()}\n")


def whole_loss(model: MiniGPT, tokens: Tensor, device: torch.device) -> float:
    """The mean loss over all of `tokens`, each but the first predicted once, in blocks side by side."""
    block_size = model.config.block_size
    with no_record():
        model.eval()
        return mean_loss(model, consecutive_blocks(tokens, block_size, max(1, 8192 // block_size), device))


def mean_loss(model: MiniGPT, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean over all tokens of the batches."""
    mean, criterion = Mean(), TokenCrossEntropy()
    for tokens, targets in batches:
        mean.update(criterion(model(tokens), targets), targets.numel())
    return mean.compute()
