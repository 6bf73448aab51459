"""The run that `mlp` and `regression` share: rows of a table or images, and a network of linear layers."""

from typing import Generic, TypeVar

from ds_core.distributed.processes import current
from ds_core.engine.composition import Sequential
from ds_core.errors import UserError
from ds_core.recipes.mlp_model import mlp
from ds_core.recipes.options import NetworkOptions
from ds_core.recipes.tables import TableRun

NetworkOptionsT = TypeVar("NetworkOptionsT", bound=NetworkOptions)


class NetworkRun(TableRun[NetworkOptionsT, Sequential], Generic[NetworkOptionsT]):
    """A `TableRun` whose model is `mlp`."""

    def build_model(self) -> Sequential:
        options, names = self.options, self.data.class_names
        if options.norm == "batch":
            self._refuse_single_rows()
        try:
            return mlp(
                self.data.inputs,
                options.hidden,
                1 if names is None else len(names),
                activation=options.activation,
                norm=options.norm,
                dropout=options.dropout,
            ).to(self.device)
        except (RuntimeError, MemoryError) as error:
            widths = " ".join(map(str, options.hidden))
            raise UserError(f"--hidden {widths}: there is no memory for so many weights") from error

    def describe(self) -> str:
        data = self.data
        widths = (data.inputs, *self.options.hidden, self.model[-1].out_features)
        return (
            f"{self.parameters_in_words}, {' -> '.join(map(str, widths))}, learn {data.source}: "
            f"{len(data.train):,} rows to train on, {len(data.validation):,} to validate on, {len(data.test):,} to "
            f"test on; {self.batches.steps_per_epoch} steps an epoch"
        )

    def _refuse_single_rows(self) -> None:
        """Raise `UserError` if a process would see a batch of one row, which has no variance."""
        rows, processes = len(self.data.train), current().world_size
        size = self.options.batch_size or rows
        last = rows % size or size
        if last // processes < 2:
            each = "" if processes == 1 else f" for each of {processes} processes"
            raise UserError(
                f"--norm batch needs 2 rows in a batch{each}, and of {rows} training rows --batch-size "
                f"{self.options.batch_size} leaves {last} for the last one: take another size, or --norm layer"
            )
