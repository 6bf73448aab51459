"""`ds predict FOLDER --text TEXT`: the words that may stand at each [MASK], or the class of a text."""

from pathlib import Path
from typing import Any

import torch
from ds_core import UserError, load_weights, no_record
from ds_core.activations.softmax import softmax
from ds_core.recipes.finished import check_evaluated, options_of_run
from ds_core.recipes.results import table
from ds_core.training.devices import choose_device
from ds_core.training.run_folder import CHECKPOINT_FILE
from ds_core.training.run_options import DTYPES
from torch import Tensor

from ds_zoo.finetuning.options import prepare
from ds_zoo.minibert.classify import ClassifyRun
from ds_zoo.minibert.heads import (
    MiniBERTForMaskedLM,
    MiniBERTForPreTraining,
    MiniBERTForSequenceClassification,
)
from ds_zoo.minibert.model import MiniBERT
from ds_zoo.minibert.options import MiniBERTOptions, PredictOptions
from ds_zoo.minibert.pretrained import new_bert
from ds_zoo.minibert.run import MaskedRun
from ds_zoo.minibert.wordpiece import MASK, WordPieceTokenizer, check_fits


def predict_text(folder: Path, options: PredictOptions) -> None:
    """Print the likeliest words for each [MASK] of a text, or the likeliest classes of the text.

    Raises:
        UserError: the folder has no trained model, or the text cannot be used.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    assert options.text is not None
    model, tokenizer = load_trained(folder, options.weights)
    model.to(choose_device(options.device)).eval()
    pairs = None if options.pair is None else [options.pair]
    inputs = tokenizer.batch([options.text], pairs, max_length=model.config.max_length)
    if isinstance(model, MiniBERTForSequenceClassification):
        print(_classes(model, inputs, options.top))
    elif isinstance(model, (MiniBERTForMaskedLM, MiniBERTForPreTraining)):
        print(_words(model, tokenizer, inputs, options))
    else:
        raise UserError(f"{folder}: a {type(model).__name__} neither guesses words nor classifies texts")


def load_trained(folder: Path, weights: str = "best") -> tuple[Any, WordPieceTokenizer]:
    """The model of a run folder, or of one that transformers wrote, and its tokenizer.

    Args:
        weights: "best", of the best evaluation, or "last", of the last checkpoint.

    Raises:
        UserError: one of them is missing or damaged, or they do not fit.
    """
    if weights == "last":
        stored = options_of_run(folder, MiniBERTOptions)
        model = new_bert(folder)
        prepare(model, stored, new=(MaskedRun if stored.labelled is None else ClassifyRun).new)
        model.to(DTYPES[stored.dtype])
        load_weights(folder / CHECKPOINT_FILE, model)
    else:
        check_evaluated(folder, "minibert")
        model = MiniBERT.from_pretrained(folder)
    tokenizer = WordPieceTokenizer.from_pretrained(folder)
    check_fits(tokenizer, model.config.vocab_size, folder)
    return model, tokenizer


def likeliest_words(model: Any, tokenizer: WordPieceTokenizer, inputs: dict[str, Tensor], top: int) -> list[Any]:
    """For each [MASK] of one text the `top` likeliest tokens, as pairs (token, probability)."""
    device = model.bert.embeddings.tokens.weight.device
    with no_record():
        output = model(**{name: ids.to(device) for name, ids in inputs.items()})
    logits = output.logits if isinstance(model, MiniBERTForMaskedLM) else output.prediction_logits
    masked = inputs["input_ids"][0] == tokenizer.mask_id
    probabilities, numbers = softmax(logits[0].cpu()[masked].double()[:, : tokenizer.vocab_size], -1).topk(top)
    return [
        [(tokenizer.token(number), share) for number, share in zip(*row, strict=True)]
        for row in zip(numbers.tolist(), probabilities.tolist(), strict=True)
    ]


def _words(model: Any, tokenizer: WordPieceTokenizer, inputs: dict[str, Tensor], options: PredictOptions) -> str:
    assert options.text is not None
    if tokenizer.mask_id not in inputs["input_ids"] and options.pair is None:
        raise UserError(f"--text has no {MASK}: write it in place of each word that is to be guessed")
    top = min(options.top, tokenizer.vocab_size)
    found = likeliest_words(model, tokenizer, inputs, top)
    parts = []
    for number, words in enumerate(found, 1):
        filled = _with(options.text, words[0][0]) if len(found) == 1 and options.pair is None else None
        heading = f"{MASK} {number}" if len(found) > 1 else MASK
        parts.append(table([heading, "probability"], [[name, f"{share:.4f}"] for name, share in words]))
        if filled is not None:
            parts.append(filled)
    if options.pair is not None and isinstance(model, MiniBERTForPreTraining):
        device = model.bert.embeddings.tokens.weight.device
        with no_record():
            logits = model(**{name: ids.to(device) for name, ids in inputs.items()}).seq_relationship_logits
        follows = float(softmax(logits.double(), -1)[0, 0])
        parts.append(f"the second text follows the first with probability {follows:.4f}")
    return "\n\n".join(parts)


def _with(text: str, piece: str) -> str:
    """The text with the piece in the place of [MASK]; one within a word is joined to what stands before it."""
    before, _, after = text.partition(MASK)
    return before.rstrip() + piece[2:] + after if piece.startswith("##") else before + piece + after


def _classes(model: Any, inputs: dict[str, Tensor], top: int) -> str:
    names = model.labels.names
    device = model.classifier.weight.device
    with no_record():
        logits = model(**{name: ids.to(device) for name, ids in inputs.items()}).logits
    probabilities, numbers = softmax(logits[0].cpu().double(), -1).topk(min(top, len(names)))
    rows = [[names[n], f"{share:.4f}"] for n, share in zip(numbers.tolist(), probabilities.tolist(), strict=True)]
    return table(["class", "probability"], rows)
