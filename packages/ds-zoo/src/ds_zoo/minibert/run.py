"""`ds train minibert`: a BERT that learns a text by guessing what was masked in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from ds_core import KeepBest, Trainer, UserError
from ds_core.data.batches import Batches
from ds_core.recipes import Run
from ds_core.recipes.choices import make_schedule
from ds_core.training.evaluation import evaluation_mode
from ds_core.training.pretrained_files import write_config
from ds_core.training.same_data import SameData
from ds_transformers import sinusoidal_encoding

from ds_zoo.finetuning.optimizer import make_adamw
from ds_zoo.finetuning.options import prepare
from ds_zoo.minibert.baseline import BigramGuess
from ds_zoo.minibert.config import MiniBERTConfig
from ds_zoo.minibert.evaluation import MaskedScores, score_masked
from ds_zoo.minibert.heads import MiniBERTForMaskedLM, MiniBERTForPreTraining
from ds_zoo.minibert.masking import SHARE, MaskedBlocks, SentencePairs, TokenDocuments
from ds_zoo.minibert.model import MiniBERT
from ds_zoo.minibert.options import MiniBERTOptions
from ds_zoo.minibert.pretrained import config_fields
from ds_zoo.minibert.text_data import LabelledData, MaskedData, read_masked
from ds_zoo.minibert.wordpiece import CONFIG_FILE, TOKENIZER_FILE, WordPieceTokenizer, check_fits

# The longest wave is 2 pi times as long; 10,000, which is usual, leaves half of the waves flat over short texts
_WAVE_BASE = 100.0
# Different streams of batches from one seed
_TRAINING, _VALIDATION = 0, 1

DataT = TypeVar("DataT", MaskedData, LabelledData)


def config_of(options: MiniBERTOptions, tokenizer: WordPieceTokenizer) -> MiniBERTConfig:
    """The sizes that the options ask for."""
    return MiniBERTConfig(
        tokenizer.vocab_size,
        max_length=options.max_length,
        num_layers=options.num_layers,
        num_heads=options.num_heads,
        embed_dim=options.embed_dim,
        hidden_dim=options.hidden_dim,
        dropout=options.dropout,
        attention_dropout=options.dropout,
        initializer_range=options.initializer_range,
        pad_token_id=tokenizer.pad_id,
    )


def begin_positions(model: Any, options: MiniBERTOptions) -> None:
    """Let the learned positions of a new model begin as sinusoids (Vaswani et al., 2017, section 3.5), if asked for.

    "One to the left" is then the same turn everywhere, and is not learned for each place: docs/minibert/model.md.
    """
    if options.initial_positions == "sinusoids":
        weight = model.bert.embeddings.positions.weight
        with torch.no_grad():
            weight.copy_(options.initializer_range * sinusoidal_encoding(*weight.shape, base=_WAVE_BASE))


def load_for_training(folder: Path, tokenizer: WordPieceTokenizer, max_length: int, **options: Any) -> Any:
    """The pretrained model in `folder`, which has to read texts of `max_length` tokens by this tokenizer.

    Raises:
        UserError: it cannot be read, or does not fit.
    """
    model = MiniBERT.from_pretrained(folder, **options)
    check_fits(tokenizer, model.config.vocab_size, folder)
    if max_length > model.config.max_length:
        raise UserError(
            f"--max-length {max_length} is beyond the {model.config.max_length} positions of the model in {folder}"
        )
    return model


class BertRun(Run[MiniBERTOptions, DataT, Any]):
    """What learning a text and learning classes have in common."""

    name = "minibert"
    new: ClassVar[Sequence[str]] = ()  # parts that a pretrained folder has no weights for
    files = ("config.json", "model.safetensors", TOKENIZER_FILE, CONFIG_FILE)

    def count_steps(self) -> int:
        return self.options.steps

    def make_trainer(self) -> Trainer:
        options = self.options
        optimizer = make_adamw(self.model, options)
        warmup_steps = min(options.warmup_steps, self.steps // 10)
        schedule = make_schedule("cosine", optimizer, self.steps, warmup_steps=warmup_steps, min_lr=options.min_lr)
        model: Any = self.model
        return Trainer(
            model,
            model.criterion(),
            optimizer,
            schedule=schedule,
            clip_norm=options.clip_norm or None,
            accumulate=options.accumulate,
            compile=options.compile == "step",
            folder=self.folder,
            evaluate=self.evaluate,
            evaluate_every=options.evaluate_every,
            checkpoint_every=options.checkpoint_every,
            callbacks=[
                SameData(self.data.digest, self.data.source),
                KeepBest(write=lambda trainer: trainer.model.save_pretrained(trainer.folder)),
            ],
        )

    def evaluate(self, model: Any) -> Mapping[str, float]:
        """The loss and the metric on the validation data."""
        raise NotImplementedError

    def write_folder(self) -> None:
        """What transformers reads, but for the weights, which `KeepBest` writes."""
        write_config(self.folder, config_fields(self.model, self.model.architecture), self.model.state_dict())
        self.data.tokenizer.save(self.folder, self.model.config.max_length)

    def in_words(self) -> str:
        """What `describe` says of the model."""
        config: MiniBERTConfig = self.model.config
        return (
            f"MiniBERT with {self.parameters_in_words} ({config.num_layers} layers, {config.embed_dim} wide, "
            f"texts of {self.options.max_length} tokens)"
        )


class MaskedRun(BertRun[MaskedData]):
    """Masked language modelling, with `--next-sentence` both of BERT's tasks."""

    def read_data(self) -> MaskedData:
        return read_masked(self.options)

    def build_model(self) -> Any:
        options, tokenizer = self.options, self.data.tokenizer
        kind: Any = MiniBERTForPreTraining if options.next_sentence else MiniBERTForMaskedLM
        if options.from_pretrained is None:
            model = kind(config_of(options, tokenizer))
            begin_positions(model, options)
        else:
            model = load_for_training(
                options.from_pretrained, tokenizer, options.max_length, architecture=kind.architecture
            )
        prepare(model, options, new=self.new)
        return model

    def make_batches(self) -> Batches:
        return self._batches(self.data.training, _TRAINING)

    def evaluate(self, model: Any) -> Mapping[str, float]:
        scores = self._scores(self.options.evaluate_batches)
        if self.options.next_sentence:
            found = {"loss": scores.loss + scores.pair_loss, "masked_accuracy": scores.accuracy}
            return {**found, "next_sentence_accuracy": scores.pair_accuracy}
        return {"loss": scores.loss, "masked_accuracy": scores.accuracy}

    def describe(self) -> str:
        data = self.data
        return (
            f"{self.in_words()} learns {data.source}: {len(data.training.tokens):,} tokens to train on, "
            f"{len(data.validation.tokens):,} to validate on, {data.tokenizer.vocab_size} different ones"
        )

    def report(self) -> Mapping[str, Any]:
        options, data = self.options, self.data
        per_batch = options.batch_size * (options.max_length - 2)
        count = max(options.evaluate_batches, round(len(data.validation.tokens) / per_batch))  # as many as there are
        baseline = BigramGuess(data.training.tokens, data.tokenizer.vocab_size)
        with evaluation_mode(self.model):
            scores = self._scores(count, baseline)
        ratio = scores.accuracy / max(scores.baseline_accuracy, 1e-9)
        print(
            f"of {scores.tokens:,} masked tokens of the validation text {scores.accuracy:.1%} are guessed right "
            f"(perplexity {scores.perplexity:.1f});\n"
            "the baseline, what follows the token on the left most often in the training text, guesses "
            f"{scores.baseline_accuracy:.1%}: {ratio:.2f} times as many"
        )
        found = {
            "masked_tokens": scores.tokens,
            "masked_accuracy": scores.accuracy,
            "perplexity": scores.perplexity,
            "baseline_accuracy": scores.baseline_accuracy,
            "times_baseline": ratio,
        }
        if options.next_sentence:
            print(f"of {scores.pairs:,} pairs {scores.pair_accuracy:.1%} are told apart; chance is 50 %")
            found["next_sentence_accuracy"] = scores.pair_accuracy
        return {"validation": found}

    def next_commands(self) -> list[str]:
        folder = self.typed_folder
        return [
            f"predict {folder} --text 'return the [MASK] of the list'",
            f"train minibert --out {folder} --resume --steps {2 * self.trainer.step}",
            f"train minibert --from-pretrained {folder} --labelled FILE --out runs/classes",
        ]

    def _scores(self, count: int, baseline: BigramGuess | None = None) -> MaskedScores:
        batches = self._batches(self.data.validation, _VALIDATION)
        return score_masked(self.model, map(batches.batch, range(count)), baseline)

    def _batches(self, documents: TokenDocuments, stream: int) -> MaskedBlocks | SentencePairs:
        options = self.options
        kind: Any = SentencePairs if options.next_sentence else MaskedBlocks
        seed = 2 * options.seed + stream
        share = options.mask_share if stream == _TRAINING else SHARE
        found: MaskedBlocks | SentencePairs = kind(
            documents, self.data.tokenizer, options.max_length, options.batch_size, seed, self.device, share
        )
        return found
