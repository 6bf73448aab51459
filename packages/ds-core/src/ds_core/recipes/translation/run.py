"""The run of a recipe that learns to translate: all of it but the model. Theory: docs/translation_data.md."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch

from ds_core.atomic_files import write_atomically
from ds_core.distributed.processes import current
from ds_core.engine.module import Module
from ds_core.errors import UserError, needs_extra
from ds_core.losses.token_cross_entropy import TokenCrossEntropy
from ds_core.optimizers.adam import AdamW
from ds_core.optimizers.parameter_groups import decay_groups
from ds_core.options import build_options, from_json
from ds_core.recipes.choices import make_schedule
from ds_core.recipes.run import Run
from ds_core.recipes.translation.corpus import (
    SOURCE_TOKENIZER,
    TARGET_TOKENIZER,
    Corpus,
    Tokenizers,
    load_tokenizers,
    read_corpus,
)
from ds_core.recipes.translation.options import TranslationOptions
from ds_core.recipes.translation.report import print_test
from ds_core.recipes.translation.translator import Translator
from ds_core.text.scores import corpus_scores, token_loss
from ds_core.text.token_batches import TokenBatches
from ds_core.text.tokenizers import PAD
from ds_core.training.averaging import AverageLast
from ds_core.training.checkpoint import load_weights, save_checkpoint
from ds_core.training.keep_checkpoints import BEST_FILE, KeepBest
from ds_core.training.run_folder import CHECKPOINT_FILE, read_run_folder
from ds_core.training.run_options import DTYPES
from ds_core.training.same_data import SameData
from ds_core.training.trainer import Trainer

FINAL_FILE, MAPS_FILE = "final.safetensors", "attention.png"
_FILES = {"final": FINAL_FILE, "best": BEST_FILE, "last": CHECKPOINT_FILE}

OptionsT = TypeVar("OptionsT", bound=TranslationOptions)
ModelT = TypeVar("ModelT", bound=Module)
DrawAttention = Callable[[Translator, str, str, Path], None]


class TranslationRun(Run[OptionsT, Corpus, ModelT], Generic[OptionsT, ModelT]):
    """A recipe that learns to translate gives its `name`, its options, its model, and a few words about the model.

        class RNNRun(TranslationRun[RNNOptions, EncoderDecoder]):
            name = "translate-rnn"
            options_type = RNNOptions

            def build_model(self) -> EncoderDecoder:
                source_vocab, target_vocab = self.vocab_sizes
                return EncoderDecoder(source_vocab, target_vocab, self.options.embed_dim)

            def model_in_words(self) -> str: ...

        recipe = translation_recipe(RNNRun, "an LSTM that learns to translate", check)

    The model is called with token numbers, source (B, S), which ends with `END`, and target (B, T), which begins with
    `BEGIN`, and gives the logits (B, T, V) of the token that follows each. `PAD` fills up short rows. It is a
    `StepwiseDecoder` as well.

    Attributes:
        options_type: the class of the options.
        draw_attention: called with a translator, a sentence, its translation and a path, to draw what each token of
            the translation looked at; None for a model without attention.
        tokenizers: of source and target; there before the model is built.
    """

    options_type: ClassVar[type[TranslationOptions]]
    draw_attention: DrawAttention | None = None
    files = (FINAL_FILE, SOURCE_TOKENIZER, TARGET_TOKENIZER, MAPS_FILE)

    batches: TokenBatches
    tokenizers: Tokenizers

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """How many tokens source and target have."""
        source, target = self.tokenizers
        return source.vocab_size, target.vocab_size

    @property
    def has_attention(self) -> bool:
        """Whether there is something for `draw_attention` to draw; a recipe may let its options say so."""
        return self.draw_attention is not None

    def model_in_words(self) -> str:
        """What `describe` calls the model."""
        return "a model"

    def read_data(self) -> Corpus:
        with needs_extra("text", "scoring translations"):
            import sacrebleu  # noqa: F401 - not needed before the end, which may be hours away
        corpus = read_corpus(self.options)
        self.tokenizers = corpus.source_tokenizer, corpus.target_tokenizer
        return corpus

    def make_batches(self) -> TokenBatches:
        options, processes = self.options, current()
        shard = {"rank": processes.rank, "world_size": processes.world_size}
        return self.data.batches(self.data.parts.train, options.max_tokens, self.device, seed=options.seed, **shard)

    def count_steps(self) -> int:
        return max(1, self.options.epochs * self.batches.steps_per_epoch // self.options.accumulate)

    def make_trainer(self) -> Trainer:
        options = self.options
        self.validation = self.data.batches(self.data.parts.validation, options.max_tokens, self.device, shuffle=False)
        optimizer = AdamW(
            decay_groups(self.model, options.weight_decay),
            lr=options.lr,
            betas=(0.9, options.beta2),
            eps=1e-9,
            weight_decay=0.0,
        )
        warmup_steps = options.warmup_steps
        if options.schedule == "cosine":  # the epochs decide how many steps there are
            warmup_steps = min(warmup_steps, self.steps // 5)
        schedule = make_schedule(
            options.schedule,
            optimizer,
            self.steps,
            warmup_steps=warmup_steps,
            factor=options.lr,
            embed_dim=options.embed_dim,
        )
        self.averaging = AverageLast(options.average) if options.average > 1 else None
        return Trainer(
            self.model,
            TokenCrossEntropy(ignore_index=PAD, label_smoothing=options.label_smoothing),
            optimizer,
            schedule=schedule,
            clip_norm=options.clip_norm or None,
            accumulate=options.accumulate,
            folder=self.folder,
            evaluate=lambda model: token_loss(model, self.validation.epoch(0)),
            evaluate_every=options.evaluate_every * max(1, self.batches.steps_per_epoch // options.accumulate),
            checkpoint_every=options.checkpoint_every,
            callbacks=[
                SameData(self.data.digest, self.data.source),
                KeepBest(),
                *([self.averaging] if self.averaging is not None else []),
            ],
        )

    def describe(self) -> str:
        parts, sizes = self.data.parts, self.vocab_sizes
        left_out = (
            f" ({parts.left_out:,} more left out, because their translation is held out)" if parts.left_out else ""
        )
        vocabulary = (
            f"one vocabulary of {sizes[0]}"
            if self.options.share_vocabulary
            else f"vocabularies of {sizes[0]} and {sizes[1]}"
        )
        return (
            f"{self.model_in_words()} with {self.parameters_in_words} learns {self.data.source}: "
            f"{len(parts.train):,} pairs to train on{left_out}, {len(parts.validation):,} to validate on, "
            f"{len(parts.test):,} to test on; {vocabulary} tokens; {self.batches.steps_per_epoch} batches an epoch"
        )

    def write_folder(self) -> None:
        for name, tokenizer in zip((SOURCE_TOKENIZER, TARGET_TOKENIZER), self.tokenizers, strict=True):
            write_atomically(self.folder / name, tokenizer.to_json())

    def final_weights(self) -> str:
        if self.averaging is None:
            origin = super().final_weights()
        else:
            self.model.load_state_dict(self.averaging.mean())
            origin = "the mean of steps " + ", ".join(map(str, self.averaging.steps))
        save_checkpoint(self.folder / FINAL_FILE, model=self.model, step=self.trainer.step)
        return origin

    def report(self) -> Mapping[str, Any]:
        options, test = self.options, self.data.parts.test
        self.translations = self.translator().translate(
            test.source, beam_size=options.beam_size, length_penalty=options.length_penalty
        )
        scores = corpus_scores(self.translations, test.target)
        validation = token_loss(self.model, self.validation.epoch(0))
        print_test(test, self.translations, scores, validation["perplexity"])
        return {"validation": validation, "test": scores}

    def plot(self) -> None:
        super().plot()
        if self.draw_attention is not None and self.has_attention:
            sentence, translation = self.data.parts.test.source[0], self.translations[0]
            self.draw_attention(self.translator(), sentence, translation, self.folder / MAPS_FILE)

    def next_commands(self) -> list[str]:
        sentence, longer = shlex.quote(self.data.parts.test.source[0]), 2 * self.options.epochs
        return [
            f"translate {self.typed_folder} --text {sentence}",
            f"train {self.name} --out {self.typed_folder} --resume --epochs {longer}",
        ]

    def translator(self) -> Translator:
        """The model with its tokenizers."""
        return Translator(self.model, *self.tokenizers)

    @classmethod
    def load(cls, folder: str | Path, weights: str = "final", device: torch.device | str = "cpu") -> Translator:
        """What a run of this recipe has learned.

        Args:
            weights: of the end of training, "final"; of the best evaluation, "best"; or of the "last" checkpoint.

        Raises:
            UserError: the folder holds another run, there are no such weights yet, or the files are damaged or do not
                belong together.
        """
        folder = Path(folder)
        record = read_run_folder(folder)
        if record.recipe != cls.name:
            raise UserError(f"{folder} holds a run of {record.recipe}, not of {cls.name}")
        options: Any = build_options(cls.options_type, from_json(cls.options_type, record.options))
        run = cls(options)
        run.tokenizers = load_tokenizers(folder)
        path = folder / _FILES[weights]
        if not path.exists():
            there = [f"--weights {name}" for name, file in _FILES.items() if (folder / file).exists()]
            known = f"there is {' and '.join(there)}" if there else "there are no weights yet"
            raise UserError(f"{folder}: no {path.name}, the training has not come so far; {known}")
        run.model = run.build_model().to(device=device, dtype=DTYPES[options.dtype])
        load_weights(path, run.model)
        return run.translator()
