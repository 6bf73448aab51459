"""Parts of a model by name: `tokens`, `blocks.0`, `feed_forward.linear1`, with the wildcards of file names.

Theory: docs/finetuning/freezing.md.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")
_MOST_LISTED = 12


def starts_with(name: str, pattern: str) -> bool:
    """Whether a dotted name, or a part that it begins with, fits: `blocks.0.norm1.weight` fits `blocks.0`."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts) + 1))


def ends_with(name: str, pattern: str) -> bool:
    """Whether a dotted name, or a part that it ends with, fits: `blocks.0.attention` fits `attention`."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[start:]), pattern) for start in range(len(parts)))


def fits_nothing(pattern: str, what: str, names: Iterable[str]) -> str:
    """The message for a pattern that fits none of `names`; it lists them, those of all blocks as one."""
    return f"{pattern!r} fits no {what}: there are {listed(names)}"


def listed(names: Iterable[str]) -> str:
    """Names in one line; those that differ in an index alone are one, `blocks.*.attention`."""
    kinds = list(dict.fromkeys(_INDEX.sub("*", name) for name in names))
    more = f" and {len(kinds) - _MOST_LISTED} more" if len(kinds) > _MOST_LISTED else ""
    return (", ".join(kinds[:_MOST_LISTED]) + more) or "none"


def check_patterns(owner: str, patterns: Sequence[str]) -> None:
    """Raise TypeError for a single text, whose letters would be taken for patterns."""
    if isinstance(patterns, str):
        raise TypeError(f"{owner}: given the text {patterns!r}, expected a sequence of names: ({patterns!r},)")
