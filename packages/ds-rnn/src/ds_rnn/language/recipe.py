"""The recipe `char-rnn` of the command `ds`: a recurrent network that learns a text, and continues texts with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ds_core import AdamW, KeepBest, TokenCrossEntropy, Trainer, UserError, load_weights
from ds_core.metrics import Mean
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.options import option
from ds_core.recipes import Command, Recipe
from ds_core.recipes.choices import make_schedule
from ds_core.recipes.finished import options_of_run
from ds_core.recipes.text_corpus import TOKENIZER_FILE, Corpus, TextOptions, read_corpus
from ds_core.recipes.text_run import Samples, TextGenerateOptions, TextRun, print_text, prompt_of
from ds_core.testing import Report, report
from ds_core.text.tokenizers import load_tokenizer
from ds_core.training.devices import choose_device
from ds_core.training.evaluation import evaluation_mode
from ds_core.training.keep_checkpoints import BEST_FILE
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import DTYPES, PrecisionOptions
from ds_core.training.same_data import SameData
from torch import Tensor

from ds_rnn.language.language_model import LanguageModelConfig, RNNLanguageModel
from ds_rnn.language.state_gradient_norms import StateGradientNorms, plot_state_gradient_norms
from ds_rnn.language.text_streams import TextStreams, windows_of
from ds_rnn.language.write import write
from ds_rnn.recurrent.by_name import LAYERS

GRADIENT_NORMS_FILE = "gradient_norms.png"
_STRETCH = 2000  # tokens at least, so that few of them are predicted with next to nothing before them


@dataclass
class CharRNNOptions(PrecisionOptions, TextOptions):
    """Options of `ds train char-rnn`."""

    out: Path = option(Path("runs/char-rnn"), "the run folder: checkpoint, tokenizer, log and plots", may_change=True)

    cell: str = option("lstm", "recurrent layers", choices=list(LAYERS))
    num_layers: int = option(2, "layers", minimum=1, maximum=1000)
    hidden_size: int = option(192, "numbers of a state", minimum=1)
    embed_dim: int = option(64, "length of a token's vector", minimum=1)
    dropout: float = option(0.0, "share of activations dropped in training", minimum=0, maximum=0.99)

    steps: int = option(1500, "optimizer steps", minimum=1, may_change=True)
    batch_size: int = option(32, "stretches of the text that are read side by side", minimum=1)
    window: int = option(64, "tokens of a step, through which gradients go back", minimum=1)
    carry: bool = option(True, "let each window begin with the state in which the one before ended")
    lr: float = option(4e-3, "peak learning rate, reached after warm-up", minimum=0)
    min_lr: float = option(1e-4, "learning rate at the end of the cosine", minimum=0)
    warmup_steps: int = option(50, "steps of warm-up, at most a tenth of the run", minimum=0)
    weight_decay: float = option(0.01, "AdamW's, on matrices only", minimum=0)
    clip_norm: float = option(1.0, "clip the gradient to this norm; 0: never", minimum=0)
    gradient_norms_every: int = option(
        250,
        "steps between records of how far back in time gradients reach; 0: none",
        minimum=0,
        may_change=True,
    )

    evaluate_every: int = option(250, "steps between evaluations", minimum=1)
    evaluate_tokens: int = option(20_000, "tokens of an evaluation", minimum=2)
    sample_every: int = option(0, "steps between samples; 0: none", minimum=0, may_change=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_lr > self.lr:
            raise UserError(f"--min-lr {self.min_lr} is above --lr {self.lr}")


def build_model(options: CharRNNOptions, vocab_size: int, streams: int) -> RNNLanguageModel:
    """The model that the options ask for, its weights drawn from the default generator."""
    config = LanguageModelConfig(
        vocab_size, options.embed_dim, options.hidden_size, options.num_layers, options.cell, options.dropout
    )
    return RNNLanguageModel(config, streams)


class CharRNNRun(TextRun[CharRNNOptions, RNNLanguageModel]):
    """`ds train char-rnn`."""

    name = "char-rnn"
    files = (*TextRun.files, GRADIENT_NORMS_FILE)

    def read_data(self) -> Corpus:
        options = self.options
        corpus = read_corpus(options, options.window, "--window")
        if len(corpus.training) < options.batch_size * (options.window + 1):
            raise UserError(
                f"{corpus.source} has {len(corpus.training)} tokens to train on, too few for --batch-size "
                f"{options.batch_size} stretches of --window {options.window} tokens"
            )
        return corpus

    def build_model(self) -> RNNLanguageModel:
        options = self.options
        return build_model(options, self.data.tokenizer.vocab_size, options.batch_size if options.carry else 0)

    def make_batches(self) -> Any:
        options = self.options
        return TextStreams(self.data.training, options.window, options.batch_size, self.device, carry=options.carry)

    def count_steps(self) -> int:
        return self.options.steps

    def make_trainer(self) -> Trainer:
        options = self.options
        optimizer = AdamW(decay_groups(self.model, options.weight_decay), lr=options.lr, weight_decay=0.0)
        warmup_steps = min(options.warmup_steps, self.steps // 10)
        schedule = make_schedule("cosine", optimizer, self.steps, warmup_steps=warmup_steps, min_lr=options.min_lr)
        return Trainer(
            self.model,
            TokenCrossEntropy(),
            optimizer,
            schedule=schedule,
            clip_norm=options.clip_norm or None,
            compile=options.compile == "step",
            folder=self.folder,
            evaluate=lambda model: {"loss": self._loss(self.data.validation[: options.evaluate_tokens])},
            evaluate_every=options.evaluate_every,
            callbacks=[
                SameData(self.data.digest, self.data.source),
                KeepBest(),
                *([StateGradientNorms(self.batches, every)] if (every := options.gradient_norms_every) else []),
                *([Samples(self, options.sample_every)] if options.sample_every else []),
            ],
        )

    def describe(self) -> str:
        options = self.options
        return (
            f"{options.num_layers} layer(s) of {options.cell}, {options.hidden_size} wide, with "
            f"{self.parameters_in_words}: it {self.data_in_words()}"
        )

    def continued(self, prompt: Tensor, count: int) -> Iterator[int]:
        return write(self.model, prompt, count, temperature=0.8, seed=self.options.seed)

    def whole_loss(self) -> float:
        return self._loss(self.data.validation)

    def plot(self) -> None:
        super().plot()
        plot_state_gradient_norms(self.trainer.history.records, self.folder / GRADIENT_NORMS_FILE)

    def _loss(self, tokens: Tensor) -> float:
        """The mean loss of a text; a long one is read as many stretches side by side, which takes less time."""
        mean, criterion, state = Mean(), TokenCrossEntropy(), None
        streams = max(1, len(tokens) // _STRETCH)
        with evaluation_mode(self.model):
            for inputs, targets in windows_of(tokens, 100, self.device, streams=streams):
                logits, state = self.model.advance(inputs, state)
                mean.update(criterion(logits, targets), targets.numel())
        return mean.compute()


def continue_text(folder: Path, options: TextGenerateOptions) -> None:
    """`ds generate FOLDER`: print the prompt and how the model continues it."""
    device = choose_device(options.device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    prompt, tokens = prompt_of(options, tokenizer)
    model = load_model(folder, options.weights, tokenizer.vocab_size).to(device)
    following = write(
        model,
        tokens,
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    print_text(prompt, following, tokenizer, options.stream)


def load_model(folder: Path, weights: str, vocab_size: int) -> RNNLanguageModel:
    """The weights of the "best" evaluation or of the "last" checkpoint of the run in `folder`.

    Raises:
        UserError: there are none yet.
        CheckpointError: they are damaged, or of another vocabulary.
    """
    path = folder / (BEST_FILE if weights == "best" else CHECKPOINT_FILE)
    if not path.exists():
        raise UserError(f"{folder} has no {path.name} yet: ds train char-rnn --out {folder} --resume trains on")
    began = options_of_run(folder, CharRNNOptions)
    model = build_model(began, vocab_size, 0).to(DTYPES[began.dtype])
    load_weights(path, model)
    return model


def check() -> Report:
    """`ds check char-rnn`: every gradient of a small model, handwritten, by autograd and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    model = RNNLanguageModel(LanguageModelConfig(11, 5, 6, 2), generator=generator)
    tokens = torch.randint(11, (2, 7), generator=generator)
    return report(model, tokens[:, :-1], TokenCrossEntropy(), tokens[:, 1:])


recipe = Recipe(
    name="char-rnn",
    summary="a recurrent network that learns a text character by character, and writes more of it",
    options=CharRNNOptions,
    train=CharRNNRun.train,
    commands=(Command("generate", "continue a text", TextGenerateOptions, continue_text),),
    check=check,
)
