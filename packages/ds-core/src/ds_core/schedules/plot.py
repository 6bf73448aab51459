"""A picture of a schedule before the run. See docs/schedule.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ds_core.plotting import new_figure, save_figure


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
    lines: dict[tuple[float, ...], list[str]] = {}
    for number, rates in enumerate(zip(*schedule.trajectory(steps), strict=True)):
        lines.setdefault(rates, []).append(str(number))
    axes = (figure := new_figure()).add_subplot()
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
    save_figure(figure, path)
