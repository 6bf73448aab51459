"""A picture of a schedule before the run. See docs/schedule.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ds_core.errors import MissingPackageError, WriteError


def plot_schedule(schedule: Any, steps: int | Sequence[float], path: str | Path) -> None:
    """Draw the learning rates of the first `steps` steps into a PNG: a line for all groups that share their rates.

    The schedule stays where it is.

    Args:
        schedule: whatever has `trajectory(steps)`, rates of all groups by step.
        steps: how many; for a `ReduceLROnPlateau` the values that it is to be told, one after the other.
        path: of the PNG.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure  # 2 s to import, so only here; no pyplot, so no display is needed
    except ImportError as error:
        raise MissingPackageError(
            "plotting needs matplotlib, which is not installed: pip install matplotlib (the extra ds-core[plot])"
        ) from error
    lines: dict[tuple[float, ...], list[str]] = {}
    for number, rates in enumerate(zip(*schedule.trajectory(steps), strict=True)):
        lines.setdefault(rates, []).append(str(number))
    axes = (figure := Figure(figsize=(7, 4.5), dpi=120, layout="constrained")).add_subplot()
    for rates, numbers in lines.items():
        axes.plot(rates, drawstyle="steps-post", label=f"group {', '.join(numbers)}")
    axes.set(
        xlabel="step" if isinstance(steps, int) else "evaluation",
        ylabel="learning rate",
        title=type(schedule).__name__,
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend()
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror}") from error
