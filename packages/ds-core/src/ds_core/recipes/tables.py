"""The run of recipes that learn from rows of a table or from images, whatever their network is."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from ds_core.data.loader import Loader
from ds_core.data.tables import Task
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.engine.module import Module
from ds_core.recipes.choices import make_optimizer, make_schedule
from ds_core.recipes.options import TableOptions
from ds_core.recipes.prepare import Prepared, prepare, rows_of
from ds_core.recipes.results import table
from ds_core.recipes.run import Run
from ds_core.training.early_stopping import EarlyStopping
from ds_core.training.evaluation import Metric, evaluate
from ds_core.training.keep_checkpoints import KeepBest
from ds_core.training.same_data import SameData
from ds_core.training.trainer import Trainer

TableOptionsT = TypeVar("TableOptionsT", bound=TableOptions)
ModelT = TypeVar("ModelT", bound=Module)


class TableRun(Run[TableOptionsT, Prepared, ModelT], Generic[TableOptionsT, ModelT]):
    """What is left to a recipe: its `task`, its model, its loss, its metrics, and what it reports of the test rows."""

    task: ClassVar[Task]
    batches: Loader

    @abstractmethod
    def make_criterion(self) -> Any:
        """The loss."""

    @abstractmethod
    def make_metrics(self) -> Mapping[str, Metric]:
        """What an evaluation measures beside the loss, by name."""

    @abstractmethod
    def report_test(self) -> Mapping[str, Any]:
        """Print more about the test rows; returns what is new for `results.json`."""

    def read_data(self) -> Prepared:
        return prepare(self.options, self.task, self.device)

    def make_batches(self) -> Loader:
        return Loader(self.data.train, self.options.batch_size or None, seed=self.options.seed)

    def count_steps(self) -> int:
        return self.options.epochs * self.batches.steps_per_epoch

    def make_trainer(self) -> Trainer:
        options = self.options
        self.criterion, self.metrics = self.make_criterion(), self.make_metrics()
        optimizer = make_optimizer(options.optimizer, self.model, options.lr, options.weight_decay)
        warmup_steps = min(100, self.steps // 20)
        stopping = [EarlyStopping(patience=options.patience)] if options.patience else []
        return Trainer(
            self.model,
            self.criterion,
            optimizer,
            schedule=make_schedule(options.schedule, optimizer, self.steps, warmup_steps=warmup_steps),
            clip_norm=options.clip_norm or None,
            folder=self.folder,
            evaluate=lambda model: self.measure(self.data.validation),
            evaluate_every=options.evaluate_every * self.batches.steps_per_epoch,
            callbacks=[SameData(self.data.digest, self.data.source), KeepBest(), *stopping],
        )

    def measure(self, part: TensorDataset) -> dict[str, Any]:
        """The loss and the metrics over all rows of a part."""
        return evaluate(self.model, rows_of(part), self.criterion, self.metrics)

    def report(self) -> Mapping[str, Any]:
        """Loss and metrics of every part, and what the recipe adds."""
        parts = {"train": self.data.train, "validation": self.data.validation, "test": self.data.test}
        found = {name: self.measure(part) for name, part in parts.items()}
        names = list(found["test"])
        print(table(["", *names], [[part, *(float(values[name]) for name in names)] for part, values in found.items()]))
        return {**found, **self.report_test()}

    def next_commands(self) -> list[str]:
        commands = [f"check {self.name}"]
        if self.trainer.stopped is None:  # a run that has ended early stays ended when it is resumed
            longer = f"--epochs {2 * self.options.epochs}"
            commands.insert(0, f"train {self.name} --out {self.typed_folder} --resume {longer}")
        return commands
