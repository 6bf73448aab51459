"""How often each class is taken for each other. Theory: docs/metrics.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ds_core.errors import ShapeError
from ds_core.metrics.accuracy import check_classes
from ds_core.plotting import new_figure, plain_text, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# C = classes


class ClassCounts:
    """What the metrics of classes are calculated from: counts by true class (row) and predicted class (column).

    Args:
        num_classes: C.
        ignore_index: targets of this class do not count.

    Attributes:
        counts: (C, C) of int64 on the CPU, which `update` adds to.

    Raises:
        ValueError: fewer than one class.
    """

    def __init__(self, num_classes: int, ignore_index: int = -100) -> None:
        if num_classes < 1:
            raise ValueError(f"{type(self).__name__}: given num_classes={num_classes}, expected at least 1")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        self.counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        """Count a batch: logits (..., C), whose highest is the prediction, or predicted classes (...); target (...).

        Raises:
            ShapeError: shapes or dtypes do not fit.
            ValueError: a target or a prediction is no class.
        """
        name = type(self).__name__
        given = f"{name}: given output {tuple(output.shape)} of {output.dtype} and target {tuple(target.shape)}"
        if output.is_floating_point():
            if output.shape != (*target.shape, self.num_classes):
                raise ShapeError(f"{given}, expected logits {(*target.shape, self.num_classes)}")
            output = output.argmax(-1)
        if output.shape != target.shape:
            raise ShapeError(f"{given}, expected classes {tuple(target.shape)}, or logits with one dimension more")
        counted = target != self.ignore_index
        classes, predicted = target[counted], output[counted]
        check_classes(name, classes, self.num_classes)
        check_classes(name, predicted, self.num_classes, "prediction")
        pairs = classes.long() * self.num_classes + predicted.long()
        found = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts += found.view(self.num_classes, self.num_classes).cpu()


class ConfusionMatrix(ClassCounts):
    """How often class [row] was taken for class [column], as in `sklearn.metrics.confusion_matrix`."""

    def compute(self) -> Tensor:
        """The counts so far, (C, C)."""
        return self.counts.clone()

    def plot(self, path: str | Path, class_names: Sequence[str] | None = None) -> None:
        """Draw the counts into a PNG, each row coloured by its shares.

        Raises:
            ValueError: the number of names is not that of classes.
            MissingPackageError: matplotlib is not installed.
            WriteError: the file cannot be written.
        """
        size = max(4.0, 0.55 * self.num_classes + 1.5)
        figure = new_figure(size, size)
        self.draw(figure.add_subplot(), class_names)
        save_figure(figure, path)

    def draw(self, axes: "Axes", class_names: Sequence[str] | None = None) -> None:
        """Draw the counts into matplotlib's `axes`."""
        given = [str(number) for number in range(self.num_classes)] if class_names is None else class_names
        names = [plain_text(name) for name in given]
        if len(names) != self.num_classes:
            raise ValueError(f"ConfusionMatrix: given {len(names)} class names, expected {self.num_classes}")
        shares = self.counts / self.counts.sum(1, keepdim=True).clamp_min(1)
        axes.imshow(shares.tolist(), cmap="Blues", vmin=0, vmax=1)
        for row, line in enumerate(self.counts.tolist()):
            for column, count in enumerate(line):
                dark = float(shares[row, column]) > 0.5
                axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
        ticks = list(range(self.num_classes))
        axes.set_xticks(ticks, names, rotation=0 if max(map(len, names)) < 4 else 90)
        axes.set_yticks(ticks, names)
        axes.set(xlabel="predicted", ylabel="true")
