"""Text to learn from: the user's file, or the standard library of the Python that runs this."""

import hashlib
import sysconfig
from pathlib import Path

from ds_core.errors import UserError

# Directories of the library that hold no ordinary source: tests, installed packages, character tables.
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"})


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, newlines as they are.

    Raises:
        UserError: the file cannot be read, is empty, or holds bytes that are not UTF-8 (which, and where).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the text {path}: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"the text {path} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}, line {line}"
        ) from error
    if not text:
        raise UserError(f"the text {path} is empty")
    return text


def standard_library_text(max_bytes: int = 4_000_000) -> str:
    """Real source and prose that every Python brings along: its modules, and the chapters of its language reference.

    It takes all of the reference first, then modules until `max_bytes` (of ASCII) are reached. Both are laid out in the
    order of a hash of their names, which is the same on every machine and mixes packages, so that any stretch of the
    text looks like any other. Tests, tables and the few files that are not ASCII are left out, so that a vocabulary of
    characters stays at about a hundred.

    Raises:
        UserError: this Python comes without the source of its library.
    """
    parts, size = {}, 0
    for name, part in [*_language_reference().items(), *_modules().items()]:
        if size + len(part) <= max_bytes:
            parts[name] = part
            size += len(part)
    if not parts:
        raise UserError("this Python comes without the source of its standard library: give a text with --text FILE")
    return "\n\n".join(parts[name] for name in sorted(parts, key=_shuffled))


def _language_reference() -> dict[str, str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return {}
    chapters = {f"topic {name}": text.strip() for name, text in topics.items() if text.isascii()}
    return {name: chapters[name] for name in sorted(chapters, key=_shuffled)}


def _modules() -> dict[str, str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    parts = {}
    for path in library.rglob("*.py"):
        name = path.relative_to(library)
        if path.is_file() and _LEFT_OUT.isdisjoint(name.parts) and not name.name.startswith("_sysconfigdata"):
            data = path.read_bytes()
            if data.isascii() and data.strip():
                parts[name.as_posix()] = data.decode("ascii").replace("\r\n", "\n").strip()
    return {name: parts[name] for name in sorted(parts, key=_shuffled)}


def _shuffled(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
