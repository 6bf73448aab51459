"""Arguments for the plain pairs of activations: name of the fast function -> a list of argument tuples."""

from typing import Any

CASES: dict[str, list[Any]] = {}
