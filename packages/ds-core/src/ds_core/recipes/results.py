"""What a run of a recipe came to: a table on the screen, `results.json` in its folder."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ds_core.atomic_files import write_atomically

RESULTS_FILE = "results.json"


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Text in columns; numbers with four digits, to the right."""
    lines = [
        list(headings),
        *[[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows],
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    numeric = [all(not isinstance(row[column], str) for row in rows) for column in range(len(headings))]
    shown = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(shown)


def save_results(folder: Path, results: Mapping[str, object]) -> None:
    """Write `results.json`; numbers that are infinite or NaN become null, because JSON has none such.

    Raises:
        WriteError: it cannot be written.
    """
    write_atomically(folder / RESULTS_FILE, json.dumps(_finite(results), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
