"""Images with captions of the user's own: a table that names both. Theory: docs/scenes/caption_files.md."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds_core import UserError
from ds_core.data.csv_rows import read_rows
from ds_core.errors import did_you_mean

# n = rows of the table

IMAGE_COLUMNS = ("image", "file_name")
TEXT_COLUMNS = ("text", "caption")
TABLES = ("metadata.csv", "metadata.jsonl", "captions.csv", "captions.jsonl")
_CSV, _JSON_LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")


@dataclass(frozen=True)
class CaptionedImages:
    """Files and what is said of them. An image with several captions stands there several times.

    Attributes:
        table: where they were read.
        paths: (n,) of the images, all of them there.
        texts: (n,) none of them empty, without blanks around them.
    """

    table: Path
    paths: tuple[Path, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Path, str]:
        return self.paths[index], self.texts[index]

    def digest(self) -> str:
        """The SHA-256 digest of the captions and of every image's name and length, for `SameData`."""
        digest = hashlib.sha256()
        for path, text in zip(self.paths, self.texts, strict=True):
            name = os.path.relpath(path, self.table.parent)
            digest.update(f"{name!r} {path.stat().st_size} {text!r}\n".encode())
        return digest.hexdigest()


def read_captions(path: str | Path, *, encoding: str = "utf-8-sig") -> CaptionedImages:
    """Read a table of images and captions.

    Args:
        path: a CSV file (.csv, .tsv) with a header, a file of JSON lines (.jsonl, .ndjson), or a folder with a
            metadata.csv, metadata.jsonl, captions.csv or captions.jsonl in it. Columns or fields: `image` (also
            `file_name`), a path relative to the table's folder, and `text` (also `caption`). Others are ignored.
        encoding: "utf-8-sig" is UTF-8, with or without a mark at the beginning.

    Raises:
        UserError: no such file or table, another format or encoding, a column missing, no rows, an empty caption, an
            image that is not there; the line is named.
    """
    table = _find_table(Path(path))
    rows = _csv_rows(table, encoding) if table.suffix.lower() in _CSV else _json_rows(table, encoding)
    paths, texts = [], []
    for line, image, text in rows:
        if not text:
            raise UserError(f"{table}, line {line}: the caption of {image or 'the image'} is empty, expected words")
        if not image:
            raise UserError(f"{table}, line {line}: no image is named, expected a path relative to {table.parent}")
        file = table.parent / image
        if not file.is_file():
            raise UserError(f"{table}, line {line}: the image {file} is not there")
        paths.append(file)
        texts.append(text)
    if not paths:
        raise UserError(f"{table} has no rows, expected images and their captions")
    return CaptionedImages(table, tuple(paths), tuple(texts))


def _find_table(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in TABLES if (path / name).is_file()]
        if not found:
            raise UserError(f"{path} holds none of {', '.join(TABLES)}, expected a table of images and their captions")
        if len(found) > 1:
            names = " and ".join(table.name for table in found)
            raise UserError(f"{path} holds {names}, expected one table: name the file that is meant")
        return found[0]
    if not path.exists():
        raise UserError(f"cannot read {path}: no such file or folder, expected a table of images and their captions")
    if path.suffix.lower() not in (*_CSV, *_JSON_LINES):
        raise UserError(f"{path}: expected a table that ends with {', '.join((*_CSV, *_JSON_LINES))}")
    return path


def _csv_rows(table: Path, encoding: str) -> Iterator[tuple[int, str, str]]:
    """Line, image and text of each row."""
    delimiter = "\t" if table.suffix.lower() == ".tsv" else None
    rows = read_rows(table, delimiter=delimiter, header=True, encoding=encoding, drop_faulty=None)
    image, text = (rows.names.index(_column(table, rows.names, columns)) for columns in (IMAGE_COLUMNS, TEXT_COLUMNS))
    for line, values in zip(rows.lines, rows.values, strict=True):
        yield line, values[image], values[text]


def _json_rows(table: Path, encoding: str) -> Iterator[tuple[int, str, str]]:
    for line, fields in _objects(table, encoding):
        image, text = (
            fields[_column(f"{table}, line {line}", list(fields), columns)] for columns in (IMAGE_COLUMNS, TEXT_COLUMNS)
        )
        for name, value in (("image", image), ("caption", text)):
            if not isinstance(value, str):
                raise UserError(f"{table}, line {line}: the {name} is {json.dumps(value):.40}, expected a string")
        yield line, image.strip(), text.strip()


def _objects(table: Path, encoding: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        content = table.read_bytes()
        text = content.decode(encoding)
    except OSError as error:
        raise UserError(f"cannot read {table}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{table}, line {line}: byte 0x{content[error.start]:02x} is not {encoding}; save the file as UTF-8"
        ) from error
    for line, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        try:
            fields = json.loads(words)
        except ValueError as error:
            fault = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise UserError(f"{table}, line {line}: not JSON ({fault})") from error
        if not isinstance(fields, dict):
            raise UserError(f'{table}, line {line}: expected an object, such as {{"image": "a.png", "text": "a cat"}}')
        yield line, fields


def _column(where: object, names: Sequence[str], wanted: Sequence[str]) -> str:
    found = next((name for name in wanted if name in names), None)
    if found is None:
        near = next((hint for hint in (did_you_mean(name, wanted) for name in names) if hint), "")
        has = ", ".join(names) or "none"
        raise UserError(f"{where}: no {' or '.join(map(repr, wanted))} among the columns {has}{near}")
    return found
