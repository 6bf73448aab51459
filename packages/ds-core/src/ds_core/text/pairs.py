"""Pairs of sentences: read from the user's files, and split so that no test sentence is trained on.

Theory: docs/translation_data.md.
"""

import csv
import gzip
import hashlib
import io
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ds_core.data.csv_rows import parse_rows
from ds_core.errors import UserError

_DELIMITERS = {".csv": ",;\t", ".tsv": "\t", ".tab": "\t"}
_SAMPLE = 50  # rows looked at to find the delimiter
# what the parts of Multi30k are called; the first name is from its own repository
_PARTS = (("train",), ("val", "valid", "validation"), ("test_2016_flickr", "test2016", "test"))


class Pairs:
    """Sentences and their translations: `target[i]` translates `source[i]`.

    Sentences are brought to Unicode's form NFC, in which é is one character however it was typed, and stripped of
    blanks at both ends.

    Raises:
        ValueError: the numbers of sources and targets differ.
    """

    def __init__(self, source: Iterable[str], target: Iterable[str]) -> None:
        self.source = [_normal(text) for text in source]
        self.target = [_normal(text) for text in target]
        if len(self.source) != len(self.target):
            raise ValueError(f"Pairs: given {len(self.source)} sources and {len(self.target)} targets")

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.source, self.target, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pairs) and (self.source, self.target) == (other.source, other.target)

    def __repr__(self) -> str:
        return f"Pairs({len(self)} pairs)"


@dataclass(frozen=True)
class Split:
    """Pairs to train, to choose weights and to report on; `left_out` counts the pairs kept out of `train`."""

    train: Pairs
    validation: Pairs
    test: Pairs
    left_out: int = 0


def read_pairs(path: str | Path, *, header: bool = False) -> Pairs:
    """Read a UTF-8 file of two columns, source and target; blank lines are skipped.

    Tabs divide the columns of .tsv and .tab files. There, double quotes around a whole field are removed, and any
    other quote is an ordinary character. In other files the delimiter is whichever of comma, semicolon and tab makes
    two columns of most of the first rows, and the rules of CSV hold, line breaks inside quotes included.

    Args:
        header: whether the first row names the columns, and is not a pair.

    Raises:
        UserError: the file cannot be read, is empty or is not UTF-8; a row has another number of columns, or an empty
            one (the message says in which line).
    """
    path = Path(path)
    text = _decoded(path, _content(path))
    delimiters = _DELIMITERS.get(path.suffix.lower(), "\t,;")
    rows = list(_rows(path, text, max(delimiters, key=lambda each: _divided(text, each))))
    if header:
        rows = rows[1:]
    if not rows:
        raise UserError(f"{path} is empty, expected rows of a sentence and its translation")
    for line, row in rows:
        if len(row) != 2:
            raise UserError(f"{path}, line {line}: {len(row)} column(s), expected 2, a sentence and its translation")
        if not all(row):
            raise UserError(f"{path}, line {line}: the {'source' if not row[0] else 'target'} is empty")
    return Pairs((row[0] for _, row in rows), (row[1] for _, row in rows))


def read_multi30k(folder: str | Path, source_language: str, target_language: str) -> Split:
    """Read files named as in Multi30k: train.LL, val.LL and test_2016_flickr.LL; line n of both languages is a pair.

    val may also be called valid or validation, the last one test2016 or test, and each name may end in .gz. The split
    is the one of the files.

    Raises:
        UserError: there is no such folder, language or file; a file is empty or not UTF-8; the files of one part have
            different numbers of lines; a line is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected one with train.{source_language}, train.{target_language}")
    for language in (source_language, target_language):
        found = _languages(folder)
        if language not in found:
            known = f"languages found: {', '.join(sorted(found))}" if found else "it has no file train.LL"
            raise UserError(f"{folder} has no file train.{language} or train.{language}.gz; {known}")
    if source_language == target_language:
        raise UserError(f"given {source_language!r} as both languages, expected two")
    train, validation, test = (_aligned(folder, part, source_language, target_language) for part in _PARTS)
    return Split(train, validation, test)


def split_by_hash(pairs: Pairs, validation: float = 0.05, test: float = 0.05) -> Split:
    """Assign each pair to a part by the SHA-256 of its source, ignoring case and repeated spaces.

    A sentence goes to the same part whichever file it is in, and at whichever line. Pairs whose source or target also
    occurs in `validation` or `test` are left out of `train`.

    Raises:
        ValueError: a share is negative, or the shares leave nothing to train on.
        UserError: a part that has a share would be empty.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(f"split_by_hash: given validation={validation}, test={test}, expected at least 0, sum below 1")
    to_train: list[tuple[str, str]] = []
    to_validate: list[tuple[str, str]] = []
    to_test: list[tuple[str, str]] = []
    for pair in pairs:
        number = int.from_bytes(hashlib.sha256(_key(pair[0]).encode()).digest()[:8], "big") / 2**64  # in [0, 1)
        (to_test if number < test else to_validate if number < test + validation else to_train).append(pair)
    # equal sources have equal hashes and are in one part already; only the target may be held out elsewhere
    held_out = {_key(target) for _, target in [*to_validate, *to_test]}
    kept = [pair for pair in to_train if _key(pair[1]) not in held_out]
    for name, part, share in (
        ("train", kept, 1 - validation - test),
        ("validation", to_validate, validation),
        ("test", to_test, test),
    ):
        if share > 0 and not part:
            distinct = len({_key(source) for source in pairs.source})
            repeated = f"only {distinct} of the sources are distinct, and equal ones stay together: "
            raise UserError(
                f"of {len(pairs)} pair(s) none is left for {name}, a share of {share:.3g}; "
                + (repeated if distinct < len(pairs) else "")
                + ("give more pairs" if name == "train" else "give more pairs, or a larger share")
            )
    return Split(_together(kept), _together(to_validate), _together(to_test), len(to_train) - len(kept))


def _together(pairs: list[tuple[str, str]]) -> Pairs:
    return Pairs((source for source, _ in pairs), (target for _, target in pairs))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()


def _key(text: str) -> str:
    """Sentences with equal keys count as the same."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object lacks the mark at the beginning of the file
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8") from error


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped fields of each row that is not blank."""
    if path.suffix.lower() in (".tsv", ".tab"):
        for line, row in enumerate(text.split("\n"), 1):
            if row.strip():
                yield line, [_unquoted(field.strip()) for field in row.removesuffix("\r").split(delimiter)]
        return
    yield from ((line, fields) for line, fields in parse_rows(path, text, delimiter) if any(fields))


def _unquoted(field: str) -> str:
    inner = field[1:-1]
    quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else field


def _divided(text: str, delimiter: str) -> int:
    """How many of the first rows have two columns with this delimiter."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return sum(len(row) == 2 for row, _ in zip(reader, range(_SAMPLE), strict=False))
    except csv.Error:  # _rows reports it, with its line
        return 0


def _languages(folder: Path) -> set[str]:
    """The LL of every file train.LL or train.LL.gz."""
    return {path.name.split(".")[1] for path in folder.glob("train.*") if path.is_file()}


def _aligned(folder: Path, names: tuple[str, ...], *languages: str) -> Pairs:
    for name in names:
        paths = [_existing(folder / f"{name}.{language}") for language in languages]
        if all(paths):
            break
    else:
        wanted = " or ".join(f"{name}.{languages[0]} with {name}.{languages[1]}" for name in names)
        raise UserError(f"{folder} has no {wanted}")
    first, second = (path for path in paths if path is not None)
    one, two = _lines(first), _lines(second)
    if len(one) != len(two):
        raise UserError(
            f"{first} has {len(one):,} line(s) and {second} has {len(two):,}, expected as many: line n of the one is "
            "translated by line n of the other"
        )
    return Pairs(one, two)


def _existing(path: Path) -> Path | None:
    return next((each for each in (path, path.with_name(path.name + ".gz")) if each.is_file()), None)


def _lines(path: Path) -> list[str]:
    # not splitlines: it also splits at some characters that occur inside sentences
    lines = [line.strip() for line in _decoded(path, _content(path)).removesuffix("\n").split("\n")]
    if lines == [""]:
        raise UserError(f"{path} is empty, expected a sentence on each line")
    if "" in lines:
        raise UserError(f"{path}, line {lines.index('') + 1}: the line is empty, expected a sentence")
    return lines
