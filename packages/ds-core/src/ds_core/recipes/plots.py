"""The plots of the recipes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ds_core.errors import needs_extra
from ds_core.plotting import new_figure, plain_text, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# N = rows, D = features, G = points of the grid along a side

_GRID = 200
_SHOWN = 2000  # rows drawn at most


def decision_boundary(
    path: str | Path,
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    classes: Tensor,
    class_names: Sequence[str],
    axis_names: Sequence[str] | None = None,
) -> None:
    """Colour the plane by the predicted class, with the rows on it.

    With more than two features it is the plane through the mean in which the rows are spread most (the first two
    principal components); the rows are projected on it.

    Args:
        predict: (n, D) -> classes (n,).
        x, classes: (N, D) and (N,).
    """
    figure = new_figure(6, 5)
    draw_decision_boundary(figure.add_subplot(), predict, x, classes, class_names, axis_names)
    save_figure(figure, path)


def draw_decision_boundary(
    axes: "Axes",
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    classes: Tensor,
    class_names: Sequence[str],
    axis_names: Sequence[str] | None = None,
) -> None:
    """`decision_boundary` into matplotlib's `axes`."""
    x, classes = x[:_SHOWN].flatten(1), classes[:_SHOWN]
    mean, plane = _plane(x)
    points = ((x - mean) @ plane).cpu()  # (N, 2)
    low, high = points.amin(0), points.amax(0)
    spread = high - low
    margin = 0.08 * torch.where(spread > 0, spread, 1.0)
    steps = torch.arange(_GRID) / (_GRID - 1)
    sides = [a - m + (b - a + 2 * m) * steps for a, b, m in zip(low, high, margin, strict=True)]
    grid = torch.stack(torch.meshgrid(*sides, indexing="xy"), -1).view(-1, 2).to(x)  # (G G, 2)
    there = predict(grid @ plane.T + mean).view(_GRID, _GRID).cpu()
    colours: dict[str, Any] = {"cmap": "tab10", "vmin": 0, "vmax": 10}
    if len(class_names) > 10:
        colours = {"cmap": "tab20", "vmin": 0, "vmax": 20}
    extent = (float(sides[0][0]), float(sides[0][-1]), float(sides[1][0]), float(sides[1][-1]))
    background: dict[str, Any] = {"origin": "lower", "aspect": "auto", "alpha": 0.25, "interpolation": "nearest"}
    axes.imshow(there.tolist(), extent=extent, **background, **colours)
    for number, name in enumerate(class_names):
        own = points[classes.cpu() == number]
        style: dict[str, Any] = {
            "s": 12,
            "edgecolors": "black",
            "linewidths": 0.3,
            "label": plain_text(name),
            **colours,
        }
        axes.scatter(own[:, 0].tolist(), own[:, 1].tolist(), c=[number] * len(own), **style)
    names = axis_names
    if names is None:
        names = ("first feature", "second") if _is_plane(x) else ("first principal component", "second")
    if x.shape[1] == 1:
        names = ("the feature" if axis_names is None else axis_names[0], "")
        axes.set_yticks([])
    axes.set(xlabel=plain_text(names[0]), ylabel=plain_text(names[1]))
    axes.legend(fontsize="small")


def _is_plane(x: Tensor) -> bool:
    """Whether rows are drawn by their first features: there are no more than two, or a single row."""
    return x.shape[1] <= 2 or len(x) < 2


def _plane(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) and the two directions (D, 2) in which rows are spread most.

    One feature or two are as they are, the second direction of one being 0; so are the first two of a single row.
    """
    if _is_plane(x):
        return torch.zeros(x.shape[1]).to(x), torch.eye(x.shape[1], 2).to(x)
    with needs_extra("data", "drawing rows of three features or more"):
        from sklearn.decomposition import PCA  # type: ignore[import-untyped]  # a second to import, so only here

    found = PCA(2, random_state=0).fit(x.cpu().double().tolist())
    return torch.tensor(found.mean_).to(x), torch.tensor(found.components_.T).to(x)


def predicted_against_true(path: str | Path, predicted: Tensor, true: Tensor, unit: str) -> None:
    """One point a row, (N,) and (N,); on the diagonal if the prediction is right."""
    figure = new_figure(5, 5)
    axes = figure.add_subplot()
    shown = slice(_SHOWN)
    axes.scatter(true[shown].tolist(), predicted[shown].tolist(), s=10, alpha=0.5)
    ends = [float(torch.minimum(true.min(), predicted.min())), float(torch.maximum(true.max(), predicted.max()))]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel=f"true {plain_text(unit)}", ylabel=f"predicted {plain_text(unit)}")
    axes.grid(alpha=0.3)
    save_figure(figure, path)
