"""Sentences in, sentences out: a trained model with its tokenizers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ds_core.errors import UserError
from ds_core.options import build_options, from_json
from ds_core.text.decoding.beam_search import beam_search
from ds_core.text.decoding.greedy import greedy
from ds_core.text.translation_tokenizer import BEGIN, END, PAD, TranslationTokenizer
from ds_core.training.checkpoint import load_weights
from ds_core.training.keep_checkpoints import BEST_FILE
from ds_core.training.run_folder import CHECKPOINT_FILE, read_run_folder
from torch import Tensor

from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqConfig, Seq2SeqTransformer
from ds_transformers.translation.corpus import load_tokenizers, source_tokens
from ds_transformers.translation.options import DTYPES, TranslateOptions

FINAL_FILE = "final.safetensors"
# Vaswani et al., 2017, section 6.1: a translation may have 50 tokens more than its source.
_MORE_TOKENS = 50


@dataclass(frozen=True)
class Translator:
    """A model and its tokenizers.

    Args:
        model: its source ends in `END`, its target begins with `BEGIN`.
        source_tokenizer, target_tokenizer: what its tokens are.
    """

    model: Seq2SeqTransformer
    source_tokenizer: TranslationTokenizer
    target_tokenizer: TranslationTokenizer

    def translate(
        self,
        sentences: Sequence[str],
        *,
        beam_size: int = 4,
        length_penalty: float = 0.6,
        max_length: int | None = None,
        batch_size: int = 64,
    ) -> list[str]:
        """Each sentence in the other language, in their order; sentences of like length are translated together.

        Args:
            beam_size: 1 takes the likeliest token each time.
            length_penalty: see `beam_search`.
            max_length: tokens of a translation, at most; default 50 more than its source has.
            batch_size: sentences at a time.
        """
        tokens = source_tokens(self.source_tokenizer, list(sentences))
        order = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        found: list[list[int]] = [[]] * len(tokens)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            source = self.padded([tokens[place] for place in places])
            limits = torch.tensor([len(tokens[place]) + _MORE_TOKENS for place in places])
            limit = limits if max_length is None else max_length
            options: dict[str, Any] = {"begin": BEGIN, "end": END, "pad": PAD, "max_length": limit}
            if beam_size == 1:
                results = greedy(self.model, source, **options)
            else:
                hypotheses = beam_search(
                    self.model, source, beam_size=beam_size, length_penalty=length_penalty, **options
                )
                results = [hypothesis.tokens for hypothesis in hypotheses]
            for place, result in zip(places, results, strict=True):
                found[place] = result
        return [self.target_tokenizer.decode(result) for result in found]

    def padded(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of tokens as one tensor (B, T) where the model is, filled up with `PAD`."""
        width = max(map(len, rows), default=0)
        filled = [[*row, *[PAD] * (width - len(row))] for row in rows]
        device = self.model.source_tokens.weight.device
        return torch.tensor(filled, dtype=torch.int64, device=device).reshape(len(rows), width)


def build_model(options: TranslateOptions, source_vocab: int, target_vocab: int) -> Seq2SeqTransformer:
    """The model that the options ask for, its weights drawn from the default generator."""
    values: Any = options  # every option has its value now
    names = ("width", "heads", "hidden", "encoder_layers", "decoder_layers", "dropout", "norm_first", "activation")
    sizes = {name: getattr(values, name) for name in names}
    config = Seq2SeqConfig(
        source_vocab,
        target_vocab,
        **sizes,
        shared=options.share_vocabulary,
        tied=options.tied,
        share_weights=options.share_weights,
        pad=PAD,
    )
    return Seq2SeqTransformer(config, recompute=options.recompute)


def load_translator(folder: Path, weights: str = "final", device: torch.device | str = "cpu") -> Translator:
    """What a run of `ds train translate` has learned.

    Args:
        weights: of the end of the training, "final"; of the best evaluation, "best"; or of the "last" checkpoint.

    Raises:
        UserError: there are none yet, they are damaged, or are not for these tokenizers.
    """
    folder = Path(folder)
    record = read_run_folder(folder)
    if record.recipe != "translate":
        raise UserError(f"{folder} holds a run of {record.recipe}, not of translate")
    options = build_options(TranslateOptions, from_json(TranslateOptions, record.options))
    source, target = load_tokenizers(folder)
    files = {"final": FINAL_FILE, "best": BEST_FILE, "last": CHECKPOINT_FILE}
    if not (folder / files[weights]).exists():
        there = [f"--weights {name}" for name, file in files.items() if (folder / file).exists()]
        known = f"there is {' and '.join(there)}" if there else "there are no weights yet"
        raise UserError(f"{folder}: no {files[weights]}, the training has not come so far; {known}")
    options = replace(options, recompute=False)  # nothing is kept for a backward anyway
    model = build_model(options, source.vocab_size, target.vocab_size).to(DTYPES[options.dtype])
    load_weights(folder / files[weights], model)
    return Translator(model.to(device), source, target)
