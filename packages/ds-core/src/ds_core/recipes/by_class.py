"""How well each class of the test rows is told from the others, as a table and as numbers for `results.json`."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ds_core.metrics import F1, ConfusionMatrix, Precision, Recall
from ds_core.recipes.results import table

# N = rows, C = classes


class ByClass:
    """Precision, recall, F1 and number of rows of every class.

    Args:
        logits: (N, C), whose highest is the prediction.
        target: (N,) classes.
        class_names: of the C classes.

    Attributes:
        confusion: a `ConfusionMatrix` of the same rows.
    """

    headings = ("class", "precision", "recall", "F1", "rows")

    def __init__(self, logits: Tensor, target: Tensor, class_names: Sequence[str]) -> None:
        count = len(class_names)
        self.confusion = ConfusionMatrix(count)
        metrics = [Precision(count, average=None), Recall(count, average=None), F1(count, average=None)]
        for metric in (self.confusion, *metrics):
            metric.update(logits, target)
        found: list[Any] = [metric.compute() for metric in metrics]
        members = self.confusion.compute().sum(1)
        self.rows: list[list[Any]] = [
            [name, *(float(values[index]) for values in found), int(members[index])]
            for index, name in enumerate(class_names)
        ]

    def results(self) -> dict[str, dict[str, Any]]:
        """The numbers by class and by heading."""
        return {row[0]: dict(zip(self.headings[1:], row[1:], strict=True)) for row in self.rows}

    def __str__(self) -> str:
        return table(self.headings, self.rows)
