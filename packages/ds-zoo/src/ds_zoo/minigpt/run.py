"""`ds train minigpt`: a GPT that learns a text."""

from collections.abc import Iterable, Iterator

import torch
from ds_core import AdamW, KeepBest, TokenCrossEntropy, Trainer, no_record
from ds_core.metrics import Mean
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.recipes.choices import make_schedule
from ds_core.recipes.text_corpus import TOKENIZER_FILE, Corpus, read_corpus
from ds_core.recipes.text_run import Samples, TextRun
from ds_core.text.blocks import RandomBlocks, consecutive_blocks
from ds_core.training.same_data import SameData
from torch import Tensor

from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.generate import generate
from ds_zoo.minigpt.model import MiniGPT
from ds_zoo.minigpt.options import MiniGPTOptions

# Different streams of batches from one seed
_TRAINING, _VALIDATION = 0, 1


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


class MiniGPTRun(TextRun[MiniGPTOptions, MiniGPT]):
    """`ds train minigpt`."""

    name = "minigpt"
    files = ("config.json", "model.safetensors", TOKENIZER_FILE)

    def read_data(self) -> Corpus:
        return read_corpus(self.options, self.options.block_size)

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
        options = self.options
        return (
            f"MiniGPT with {self.parameter_count:,} parameters ({options.num_layers} layers, {options.embed_dim} wide, "
            f"blocks of {options.block_size}) {self.data_in_words()}"
        )

    def continued(self, prompt: Tensor, count: int) -> Iterator[int]:
        return generate(self.model, prompt, count, temperature=0.8, seed=self.options.seed)

    def whole_loss(self) -> float:
        return whole_loss(self.model, self.data.validation, self.device)

    def _blocks(self, tokens: Tensor, stream: int) -> RandomBlocks:
        options = self.options
        return RandomBlocks(tokens, options.block_size, options.batch_size, 2 * options.seed + stream, self.device)


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
