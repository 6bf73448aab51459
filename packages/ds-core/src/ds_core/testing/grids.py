"""Grids of arguments, whole or thinned so that every pair of values still occurs. Theory: docs/testing.md."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

FULL_GRIDS = "DS_FULL_GRIDS"  # the environment variable that asks for every combination


def full_grids() -> bool:
    """Whether every combination is to be tried: the environment variable DS_FULL_GRIDS is set, and not to 0."""
    return os.environ.get(FULL_GRIDS, "0") not in ("", "0")


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the grid's values."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def pairwise(grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A few combinations that hold every pair of values of two arguments; all of them under DS_FULL_GRIDS.

        @pytest.mark.parametrize("options", pairwise({"bias": [True, False], "norm": [True, False], ...}), ids=str)

    Most faults show with one value, or with two together. Ten yes-or-no arguments have 1024 combinations, and about ten
    of them hold all pairs.

    Args:
        grid: the values of each argument, or the combinations themselves if not all are possible.
    """
    candidates = combinations(grid) if isinstance(grid, Mapping) else [dict(chosen) for chosen in grid]
    if full_grids():
        return candidates
    left = {index: _pairs(chosen) for index, chosen in enumerate(candidates)}
    missing: set[tuple[str, ...]] = set().union(*left.values())
    kept = []
    while missing:
        best = max(left, key=lambda index: len(left[index] & missing))  # the first of those that add the most pairs
        missing -= left.pop(best)
        kept.append(best)
    return [candidates[index] for index in sorted(kept)]


def _pairs(chosen: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """The values two by two, or alone if there is one argument only. By repr: a value may be a list."""
    named = [f"{name}={value!r}" for name, value in chosen.items()]
    return set(itertools.combinations(named, min(2, len(named))))
