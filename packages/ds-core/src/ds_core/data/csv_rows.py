"""The rows of a CSV file, as text; what is in the columns is left to columns.py."""

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ds_core.errors import UserError

_DELIMITERS = ",;\t|"
_SAMPLE = 50  # rows looked at to find the delimiter
# The advice of an error, which a program and the command line may both show.
DROP_FAULTY = "(drop_faulty, --drop-faulty on the command line, leaves such rows out)"


@dataclass(frozen=True)
class TextRows:
    """The text of a file, without blanks around each value.

    Attributes:
        path: the file, for errors.
        names: of the columns; "column 1" and so on where the file has none.
        lines: the line of the file on which each row ends, from 1.
        values: (rows, columns) as text.
        dropped: how many rows were left out.
    """

    path: Path
    names: list[str]
    lines: list[int]
    values: list[list[str]]
    dropped: int


def read_rows(
    path: str | Path,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8-sig",
    drop_faulty: bool | None = False,
) -> TextRows:
    """Read a CSV file; lines that are blank are passed over.

    Args:
        delimiter: one character; None: whichever of comma, semicolon, tab and bar divides the first rows most evenly.
        header: whether the first row holds names; None: it does if none of its values is a number.
        encoding: "utf-8-sig" is UTF-8, with or without the mark at the beginning that spreadsheets write.
        drop_faulty: leave out rows that have more or fewer values than the first; otherwise they are errors, which name
            this argument unless it is None.

    Raises:
        UserError: a file that cannot be read, is empty or not of this encoding; a row that is faulty, with its line;
            a name that occurs twice.
    """
    path = Path(path)
    text = _text(path, encoding)
    if delimiter is None:
        delimiter = _delimiter(text)
    elif len(delimiter) != 1:
        raise UserError(f"{path}: given delimiter {delimiter!r}, expected one character")
    rows = parse_rows(path, text, delimiter)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} is empty, expected rows of values")
    if header is None:
        header = not any(is_number(value) for value in first[1])
    names = first[1] if header else [f"column {number + 1}" for number in range(len(first[1]))]
    _check_names(path, names)
    lines, values, dropped = [], [], 0
    for line, row in rows if header else itertools.chain([first], rows):
        if len(row) == len(names):
            lines.append(line)
            values.append(row)
        elif drop_faulty:
            dropped += 1
        else:
            missing = f", so that {names[len(row)]!r} has none" if len(row) < len(names) else ""
            advice = "" if drop_faulty is None else f" {DROP_FAULTY}"
            raise UserError(f"{path}, line {line}: {len(row)} value(s), expected {len(names)}{missing}{advice}")
    if not values:
        raise UserError(f"{path} has no rows" + (f" but {dropped} faulty ones" if dropped else " below its header"))
    return TextRows(path, names, lines, values, dropped)


def is_number(text: str) -> bool:
    """Whether the text is a number, infinite and NaN included; Python's 1_000 is none."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _text(path: Path, encoding: str) -> str:
    try:
        content = path.read_bytes()
        return content.decode(encoding)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise UserError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not {name}; "
            "save the file as UTF-8, or name its encoding, often latin-1 (encoding; --encoding of a recipe that has it)"
        ) from error
    except LookupError as error:
        raise UserError(f"{path}: given encoding {encoding!r}, which Python does not know") from error


def parse_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Last line, from 1, and stripped values of each row of the text of `path`; a blank line is none.

    Raises:
        UserError: the text breaks the rules of CSV, with the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    whole = 0  # lines of the rows that have been read
    try:
        for row in reader:
            whole = reader.line_num
            values = [value.strip() for value in row]
            if values:
                yield whole, values
    except csv.Error as error:
        if str(error) == "unexpected end of data":  # found in the last line, far from the quote that is missing
            raise UserError(
                f"{path}, line {whole + 1}: a quoted field of the row that begins there never closes, expected a "
                'second " at its end'
            ) from error
        raise UserError(f"{path}, line {reader.line_num}: {error}") from error


def _delimiter(text: str) -> str:
    """The one by which most of the first rows have as many values as the first; of several, the one with more."""
    best, most = _DELIMITERS[0], (0, 0)
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            lengths = [len(row) for row, _ in zip(reader, range(_SAMPLE), strict=False) if row]
        except csv.Error:  # said by parse_rows, with its line
            continue
        if lengths and lengths[0] > 1:
            found = (lengths.count(lengths[0]), lengths[0])
            if found > most:
                best, most = delimiter, found
    return best


def _check_names(path: Path, names: list[str]) -> None:
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in first:
            named = f"called {name!r}" if name else "without a name"
            raise UserError(f"{path}: columns {first[name]} and {number} are both {named}, expected different names")
        first[name] = number
