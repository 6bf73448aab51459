"""What the recipe learns from: documents as tokens, or texts with labels, and the tokenizer that cut them."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ds_core import UserError
from ds_core.data.csv_rows import read_rows
from ds_core.errors import did_you_mean
from ds_core.text.text_data import read_text
from ds_core.training.run_folder import CHECKPOINT_FILE
from torch import Tensor

from ds_zoo.minibert.masking import TokenDocuments
from ds_zoo.minibert.options import MiniBERTOptions
from ds_zoo.minibert.sentences import digest_of, library_documents, text_documents
from ds_zoo.minibert.wordpiece import TOKENIZER_FILE, WordPieceTokenizer

# N = texts, T = tokens of the longest

TRAINING_SHARE = 0.9
_FEWEST_LABELLED = 10
_TEXT, _LABEL = "text", "label"


@dataclass(frozen=True)
class MaskedData:
    """A text, its tokenizer, and its first nine tenths and last tenth as tokens."""

    source: str
    digest: str
    tokenizer: WordPieceTokenizer
    training: TokenDocuments
    validation: TokenDocuments


@dataclass(frozen=True)
class LabelledTexts:
    """Texts as tokens, filled up to the same length, and the number of each one's class.

    Attributes:
        input_ids, attention_mask: (N, T).
        classes: (N,).
    """

    input_ids: Tensor
    attention_mask: Tensor
    classes: Tensor


@dataclass(frozen=True)
class LabelledData:
    """Classified texts, nine tenths to train on and one to validate on.

    Attributes:
        names: of the classes, sorted.
        cut: how many texts were longer than the model reads, and are read only so far.
    """

    source: str
    digest: str
    tokenizer: WordPieceTokenizer
    names: tuple[str, ...]
    training: LabelledTexts
    validation: LabelledTexts
    cut: int


def read_masked(options: MiniBERTOptions) -> MaskedData:
    """Read the text, learn the tokenizer from its training part (or take one that is there), and split.

    Raises:
        UserError: the text cannot be read, or is too short for a block.
    """
    if options.text is None:
        documents, source = library_documents(), "the docstrings of Python's standard library"
    else:
        documents, source = text_documents(options.text), f"the text {options.text}"
    split = int(len(documents) * TRAINING_SHARE)
    parts = {"training": documents[:split], "validation": documents[split:]}
    if not parts["training"]:
        raise UserError(f"{source} is too short: expected at least two paragraphs, with a blank line between")
    tokenizer = _tokenizer(options, [sentence for document in parts["training"] for sentence in document])
    encoded = {name: TokenDocuments.encode(part, tokenizer) for name, part in parts.items()}
    for name, part in encoded.items():
        if len(part.tokens) < options.max_length - 2:
            raise UserError(
                f"{source} is too short: its {name} part has {len(part.tokens)} tokens, expected at least "
                f"{options.max_length - 2}, two less than --max-length"
            )
        if options.next_sentence and (
            len(part.pair_starts()) == 0 or bool((part.documents == part.documents[0]).all())
        ):
            raise UserError(
                f"{source} has too few sentences for --next-sentence: its {name} part needs two paragraphs, one of "
                "them with two sentences"
            )
    return MaskedData(source, digest_of(documents), tokenizer, encoded["training"], encoded["validation"])


def read_labelled(path: Path, options: MiniBERTOptions) -> LabelledData:
    """Read classified texts and split them, in an order that the seed decides.

    Raises:
        UserError: the file cannot be read, a row lacks its text or label, there are fewer than two classes or
            ten texts.
    """
    source = f"the labelled texts {path}"
    rows = _json_lines(path) if path.suffix.lower() in (".jsonl", ".json", ".ndjson") else _csv(path)
    names = tuple(sorted({label for _, label in rows}))
    if len(names) < 2:
        raise UserError(f"{source}: every label is {names[0]!r}, expected two classes or more")
    if len(names) == len(rows):
        raise UserError(
            f"{source}: no label stands there twice, such as {names[0]!r}: expected classes, of which each has several "
            "texts"
        )
    if len(rows) < _FEWEST_LABELLED:
        raise UserError(
            f"{source}: there are {len(rows)} texts, expected at least {_FEWEST_LABELLED}, of which some are held out"
        )
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(options.seed)).tolist()
    shuffled = [rows[number] for number in order]
    split = int(len(rows) * TRAINING_SHARE)
    tokenizer = _tokenizer(options, [text for text, _ in shuffled[:split]])
    tokens = tokenizer.pieces([text for text, _ in shuffled], source)
    room = options.max_length - 2
    classes = torch.tensor([names.index(label) for _, label in shuffled])
    parts = []
    for part in (slice(0, split), slice(split, None)):
        kept = [[tokenizer.cls_id, *row[:room], tokenizer.sep_id] for row in tokens[part]]
        parts.append(_filled_up(kept, classes[part], tokenizer.pad_id))
    cut = sum(len(row) > room for row in tokens)
    return LabelledData(source, digest, tokenizer, names, parts[0], parts[1], cut)


def _filled_up(rows: Sequence[Sequence[int]], classes: Tensor, pad_id: int) -> LabelledTexts:
    longest = max(map(len, rows))
    input_ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return LabelledTexts(input_ids, mask, classes)


def _tokenizer(options: MiniBERTOptions, texts: Sequence[str]) -> WordPieceTokenizer:
    if options.from_pretrained is not None:
        return WordPieceTokenizer.from_pretrained(options.from_pretrained)
    # Without a checkpoint the run starts anew, and the file may be left from another run that was being overwritten
    if options.resume and (options.out / CHECKPOINT_FILE).exists() and (options.out / TOKENIZER_FILE).exists():
        return WordPieceTokenizer.from_pretrained(options.out)
    try:
        return WordPieceTokenizer.train(texts, options.vocab_size, lowercase=options.lowercase)
    except ValueError as error:
        raise UserError(f"--vocab-size: {str(error).partition(': ')[2]}") from error


def _csv(path: Path) -> list[tuple[str, str]]:
    rows = read_rows(path, header=True)
    places = []
    for name in (_TEXT, _LABEL):
        if name not in rows.names:
            near = did_you_mean(name, rows.names)
            raise UserError(f"{path}: there is no column {name!r}, only {', '.join(rows.names)}{near}")
        places.append(rows.names.index(name))
    pairs = [(row[places[0]], row[places[1]]) for row in rows.values]
    for line, pair in zip(rows.lines, pairs, strict=True):
        _check(path, line, pair)
    return pairs


def _json_lines(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
            pair = (fields[_TEXT], fields[_LABEL])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f'{path}, line {line}: expected a JSON object such as {{"{_TEXT}": "...", "{_LABEL}": "..."}}'
            ) from error
        if not isinstance(pair[0], str) or not isinstance(pair[1], (str, int)):
            raise UserError(f"{path}, line {line}: expected a text and a label, a text or whole number")
        pairs.append((pair[0], str(pair[1])))
        _check(path, line, pairs[-1])
    if not pairs:
        raise UserError(f"{path} has no texts")
    return pairs


def _check(path: Path, line: int, pair: tuple[str, str]) -> None:
    for name, value in zip((_TEXT, _LABEL), pair, strict=True):
        if not value.strip():
            raise UserError(f"{path}, line {line}: the {name} is empty")
