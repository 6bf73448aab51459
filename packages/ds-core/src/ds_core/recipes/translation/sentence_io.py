"""Sentences to translate, one in each line, and their translations, one in each line."""

import sys
from pathlib import Path

from ds_core.errors import UserError


def read_sentences(path: Path) -> list[str]:
    """The lines of a file.

    Raises:
        UserError: it cannot be read, is not UTF-8, or has an empty line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"--input: cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--input: {path} is not UTF-8: {_position(error)}") from error
    return _lines(text, str(path))


def standard_input() -> list[str]:
    """The lines of standard input, up to its end.

    Raises:
        UserError: it is not UTF-8, or has an empty line.
    """
    try:
        return _lines(sys.stdin.read().removeprefix("\ufeff"), "standard input")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not {error.encoding.upper()}: {_position(error)}") from error


def in_one_line(text: str) -> str:
    """Line breaks as spaces, so that line n of a file is the translation of line n."""
    return " ".join(text.splitlines())


def check_writable(flag: str, path: Path | None) -> None:
    """Refuse a file that cannot be written, before there is anything to lose.

    Raises:
        UserError: it is a folder, or its folder does not exist.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{flag}: {path} is a folder, expected the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{flag}: cannot write {path}: there is no folder {path.parent}")


def _lines(text: str, where: str) -> list[str]:
    # not splitlines: it also splits at some characters that occur inside sentences
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise UserError(f"{where} holds no sentence to translate")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise UserError(f"{where}: line {number} is empty, expected a sentence in each line")
    return lines


def _position(error: UnicodeDecodeError) -> str:
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"byte 0x{error.object[error.start]:02x} in line {line}"
