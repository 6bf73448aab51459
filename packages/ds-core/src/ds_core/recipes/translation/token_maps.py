"""What the tokens of a translation looked at, drawn over both sentences."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ds_core.plotting import new_figure, plain_text, save_figure

# S = source tokens, T = target tokens

_MOST_LABELS = 60  # of an axis; for a longer sentence every second token is named, or every third, ...


def draw_token_maps(path: str | Path, maps: Mapping[str, Tensor], rows: Sequence[str], columns: Sequence[str]) -> None:
    """A PNG with a panel for each of the maps.

    Args:
        maps: by title, probabilities (T, S).
        rows: T tokens.
        columns: S tokens.

    Raises:
        MissingPackageError: matplotlib is not installed.
        WriteError: the file cannot be written.
    """
    across = min(3, len(maps))
    down = -(-len(maps) // across)
    width, height = (0.28 * min(len(labels), _MOST_LABELS) + 1.3 for labels in (columns, rows))
    figure = new_figure(across * max(2.4, width), down * max(2.2, height))
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(maps) :]:
        panel.axis("off")
    for panel, (title, picture) in zip(panels, maps.items(), strict=False):
        panel.imshow(picture.float().cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.set_title(title, fontsize=9)
        panel.set_xticks(*_ticks(columns), rotation=90, fontsize=7)
        panel.set_yticks(*_ticks(rows), fontsize=7)
    save_figure(figure, path)


def _ticks(tokens: Sequence[str]) -> tuple[range, list[str]]:
    """Positions on the axis, and their labels."""
    positions = range(0, len(tokens), -(-len(tokens) // _MOST_LABELS))
    return positions, [plain_text(tokens[position]) for position in positions]
