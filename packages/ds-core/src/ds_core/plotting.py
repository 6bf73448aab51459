"""Figures drawn by matplotlib, an extra, and written whole or not at all. No pyplot, so no display is needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from ds_core.atomic_files import write_atomically
from ds_core.errors import needs_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float = 7.0, height: float = 4.5) -> "Figure":
    """An empty figure; sizes in inches, at 120 dots an inch.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    with needs_extra("plot", "plotting"):
        from matplotlib.figure import Figure  # 2 s to import, so only here
    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def plain_text(name: str) -> str:
    """A name of the user's as matplotlib shows it unchanged: between two dollar signs it would read a formula."""
    return name.replace("$", r"\$")


def save_figure(figure: "Figure", path: str | Path) -> None:
    """Write a PNG.

    Raises:
        WriteError: the file cannot be written; what it held is still there.
    """
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))
