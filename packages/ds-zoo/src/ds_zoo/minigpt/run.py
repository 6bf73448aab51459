"""`ds train minigpt`: a GPT that learns a text."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from ds_core import KeepBest, TokenCrossEntropy, Trainer, UserError, no_record
from ds_core.metrics import Mean
from ds_core.recipes.choices import make_schedule
from ds_core.recipes.text_corpus import TOKENIZER_FILE, Corpus, read_corpus
from ds_core.recipes.text_run import Samples, TextRun
from ds_core.text.blocks import RandomBlocks, consecutive_blocks
from ds_core.text.tokenizers import Tokenizer
from ds_core.training.same_data import SameData
from torch import Tensor

from ds_zoo.finetuning.optimizer import make_adamw
from ds_zoo.finetuning.options import prepare
from ds_zoo.minigpt.config import MiniGPTConfig
from ds_zoo.minigpt.generate import generate
from ds_zoo.minigpt.model import MiniGPT
from ds_zoo.minigpt.options import MiniGPTOptions
from ds_zoo.minigpt.pretrained_tokenizer import check_fits, read_tokenizer

# Different streams of batches from one seed
_TRAINING, _VALIDATION = 0, 1


def build_model(options: MiniGPTOptions, tokenizer: Tokenizer) -> MiniGPT:
    """The model that the options ask for: pretrained, or its weights drawn from the default generator.

    Raises:
        UserError: the pretrained model cannot be read, has another vocabulary or fewer positions, or a part that the
            options name is not there.
    """
    folder = options.from_pretrained
    if folder is None:
        config = MiniGPTConfig(
            tokenizer.vocab_size,
            block_size=options.block_size,
            num_layers=options.num_layers,
            num_heads=options.num_heads,
            embed_dim=options.embed_dim,
            dropout=options.dropout,
            bias=options.bias,
        )
        model = MiniGPT(config)
    else:
        model = MiniGPT.from_pretrained(folder, dropout=options.dropout)
        check_fits(tokenizer, model.config.vocab_size, folder)
        if options.block_size > model.config.block_size:
            raise UserError(
                f"--block-size {options.block_size} is beyond the {model.config.block_size} tokens that the model in "
                f"{folder} looks at together"
            )
    prepare(model, options)
    return model


class MiniGPTRun(TextRun[MiniGPTOptions, MiniGPT]):
    """`ds train minigpt`."""

    name = "minigpt"
    files = ("config.json", "model.safetensors", TOKENIZER_FILE)

    def read_data(self) -> Corpus:
        folder = self.options.from_pretrained
        tokenizer = None if folder is None else read_tokenizer(folder)
        return read_corpus(self.options, self.options.block_size, tokenizer=tokenizer)

    def build_model(self) -> MiniGPT:
        return build_model(self.options, self.data.tokenizer)

    def make_batches(self) -> RandomBlocks:
        return self._blocks(self.data.training, _TRAINING)

    def count_steps(self) -> int:
        return self.options.steps

    def make_trainer(self) -> Trainer:
        options = self.options
        optimizer = make_adamw(self.model, options)
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
        config, folder = self.model.config, self.options.from_pretrained
        return (
            f"MiniGPT with {self.parameters_in_words} ({config.num_layers} layers, {config.embed_dim} wide, "
            f"blocks of {self.options.block_size}{'' if folder is None else f', from {folder}'}) "
            f"{self.data_in_words()}"
        )

    def report(self) -> Mapping[str, Any]:
        results = dict(super().report())
        perplexity = math.exp(min(results["validation"]["loss"], 700.0))
        print(f"perplexity: {perplexity:,.2f}")
        return results | {"validation": {**results["validation"], "perplexity": perplexity}}

    def continued(self, prompt: Tensor, count: int) -> Iterator[int]:
        return generate(self.model, prompt, count, temperature=0.8, seed=self.options.seed)

    def whole_loss(self) -> float:
        return whole_loss(self.model, self.data.validation, self.device, self.options.block_size)

    def _blocks(self, tokens: Tensor, stream: int) -> RandomBlocks:
        options = self.options
        return RandomBlocks(tokens, options.block_size, options.batch_size, 2 * options.seed + stream, self.device)


def whole_loss(model: MiniGPT, tokens: Tensor, device: torch.device, block_size: int | None = None) -> float:
    """The mean loss over all of `tokens`, each but the first predicted once, in blocks side by side.

    The blocks are the model's own, or shorter ones.
    """
    block_size = model.config.block_size if block_size is None else block_size
    with no_record():
        model.eval()
        return mean_loss(model, consecutive_blocks(tokens, block_size, max(1, 8192 // block_size), device))


def mean_loss(model: MiniGPT, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean over all tokens of the batches."""
    mean, criterion = Mean(), TokenCrossEntropy()
    for tokens, targets in batches:
        mean.update(criterion(model(tokens), targets), targets.numel())
    return mean.compute()
