"""Cases for the plain pairs of normalisation: name of the fast form -> tuples of arguments."""

from typing import Any

CASES: dict[str, list[Any]] = {}
