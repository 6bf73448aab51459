"""Cases for the plain pairs of resampling: name of the fast form -> tuples of arguments."""

from typing import Any

CASES: dict[str, list[Any]] = {}
