"""What a run that learns classes of rows or images reports: accuracy, each class, which is taken for which."""

from typing import Any, ClassVar, Generic

from ds_core.data.tables import Task
from ds_core.metrics import Accuracy
from ds_core.recipes.by_class import ByClass
from ds_core.recipes.prepare import rows_of
from ds_core.recipes.tables import ModelT, TableOptionsT, TableRun
from ds_core.training.evaluation import Metric, predict


class ClassificationRun(TableRun[TableOptionsT, ModelT], Generic[TableOptionsT, ModelT]):
    """A `TableRun` of classes; what is left to a recipe is its model and its loss."""

    task: ClassVar[Task] = "classification"
    files: ClassVar[tuple[str, ...]] = ("confusion.png",)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.data.class_names or ()

    def make_metrics(self) -> dict[str, Metric]:
        return {"accuracy": Accuracy()}

    def report_test(self) -> dict[str, Any]:
        _, classes = self.data.test.tensors
        logits = predict(self.model, (x for x, _ in rows_of(self.data.test)))
        self.by_class = ByClass(logits, classes, self.classes)
        print(f"\n{self.by_class}")
        return {"test by class": self.by_class.results()}

    def plot(self) -> None:
        super().plot()
        self.by_class.confusion.plot(self.folder / "confusion.png", self.classes)
