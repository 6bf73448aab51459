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


def pairwise(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """So few combinations that every two values of different arguments occur together; all under DS_FULL_GRIDS.

        @pytest.mark.parametrize("options", pairwise({"bias": [True, False], "batch_first": [True, False], ...}), ids=str)

    Most faults show with one value, or with two together. Ten yes-or-no arguments have 1024 combinations, and about ten
    of them hold all pairs.
    """
    every = combinations(grid)
    return every if full_grids() else covering(every)


def covering(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Some of these combinations, in their order, in which every pair occurs that occurs in any of them.

    Greedy: the next one is always the first of those with the most pairs that are still missing.
    """
    left = {index: _pairs(candidate) for index, candidate in enumerate(candidates)}
    missing = set().union(*left.values())
    chosen = []
    while missing:
        best = max(left, key=lambda index: len(left[index] & missing))
        missing -= left.pop(best)
        chosen.append(best)
    return [dict(candidates[index]) for index in sorted(chosen)]


def _pairs(chosen: Mapping[str, Any]) -> set[tuple[str, ...]]:
    """The values two by two, one by one where there is one argument only. By repr: a value may be a list."""
    named = [f"{name}={value!r}" for name, value in chosen.items()]
    return set(itertools.combinations(named, min(2, len(named))))
