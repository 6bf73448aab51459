"""The run that the recipes of networks share: from options to a trained model in a folder."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ds_core.data.loader import Loader
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.distributed.processes import current
from ds_core.engine.composition import Sequential
from ds_core.errors import MissingPackageError, UserError
from ds_core.recipes.choices import make_optimizer, make_schedule
from ds_core.recipes.mlp_model import mlp
from ds_core.recipes.options import NetworkOptions
from ds_core.recipes.prepare import Prepared, SameData, prepare, rows_of
from ds_core.recipes.recipe import command_here
from ds_core.recipes.results import RESULTS_FILE, save_results, table
from ds_core.training.checkpoint import load_weights
from ds_core.training.devices import choose_device
from ds_core.training.early_stopping import EarlyStopping
from ds_core.training.evaluation import Metric, evaluate
from ds_core.training.keep_checkpoints import BEST_FILE, KeepBest
from ds_core.training.run_folder import open_run_folder, store_options
from ds_core.training.trainer import Trainer

# Files that a run leaves beside its checkpoint; those of a run that is overwritten are deleted.
PLOTS = ("loss.png", "confusion.png", "boundary.png", "predicted.png")


class Run:
    """A recipe's run: made ready here, trained by `descend`; then the recipe says what came of it.

    Of several processes (torchrun) all descend, and the `first` says what came of it.

    Args:
        name: of the recipe.
        options: its options.
        dataset: which data set; options.csv stands above it.
        task: "classification" or "regression".
        criterion: from the data, a loss.
        metrics: what an evaluation measures beside the loss.
    """

    def __init__(
        self,
        name: str,
        options: NetworkOptions,
        dataset: str,
        task: str,
        criterion: Callable[[Prepared], Any],
        metrics: Callable[[Prepared], Mapping[str, Metric]],
    ) -> None:
        self.name = name
        self.options = options
        device = choose_device(options.device)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.data = prepare(options, dataset, task, device)
        self.criterion = criterion(self.data)
        self.metrics = metrics(self.data)
        torch.manual_seed(options.seed)
        self.device = device
        self.model = self._network()
        if options.norm == "batch":
            self._refuse_single_rows()
        self.first = current().first
        # all that may fail stands before this line, for with --overwrite it deletes
        self.folder: Path = open_run_folder(name, options)

    def descend(self) -> None:
        """Train, or go on; the model then has the weights of the best evaluation."""
        options = self.options
        loader = Loader(self.data.train, options.batch_size or None, seed=options.seed)
        steps = options.epochs * loader.steps_per_epoch
        optimizer = make_optimizer(options.optimizer, self.model, options.lr, options.weight_decay)
        callbacks: list[Any] = [SameData(self.data), KeepBest()]
        if options.patience:
            callbacks.append(EarlyStopping(patience=options.patience))
        trainer = Trainer(
            self.model,
            self.criterion,
            optimizer,
            schedule=make_schedule(options.schedule, optimizer, steps),
            clip_norm=options.clip_norm or None,
            folder=self.folder,
            evaluate=lambda model: self.measure(self.data.validation),
            evaluate_every=options.evaluate_every * loader.steps_per_epoch,
            callbacks=callbacks,
        )
        resumed = options.resume and trainer.resume()
        if options.resume:
            store_options(self.name, options)
        if self.first:
            if not resumed:
                for name in (*PLOTS, BEST_FILE, RESULTS_FILE):
                    (self.folder / name).unlink(missing_ok=True)
            self._announce(loader)
        trainer.fit(loader, steps)
        self.best_step = load_weights(self.folder / BEST_FILE, self.model)
        self.trainer = trainer

    def measure(self, part: TensorDataset) -> dict[str, Any]:
        """The loss and the metrics over all rows of a part."""
        return evaluate(self.model, rows_of(part), self.criterion, self.metrics)

    def results(self) -> dict[str, Any]:
        """Loss and metrics of every part with the best weights, which `results.json` holds from now on."""
        parts = {"train": self.data.train, "validation": self.data.validation, "test": self.data.test}
        found = {name: self.measure(part) for name, part in parts.items()}
        step = {"steps": self.trainer.step, "best step": self.best_step, "seconds": round(self.trainer.seconds, 2)}
        self._results: dict[str, Any] = {**step, **found}
        save_results(self.folder, self._results)
        names = list(found["test"])
        rows = [[part, *(float(values[name]) for name in names)] for part, values in found.items()]
        self.trainer.write(table(["", *names], rows))
        return found["test"]

    def add_results(self, more: Mapping[str, Any]) -> None:
        """What the recipe has measured besides, also into `results.json`."""
        self._results.update(more)
        save_results(self.folder, self._results)

    def plot(self, draw: Callable[[Path], None]) -> None:
        """The loss curve and what `draw(folder)` adds; without matplotlib a line that says so."""
        if not self.options.plots:
            return
        try:
            self.trainer.history.plot(self.folder / "loss.png")
            draw(self.folder)
        except MissingPackageError as error:
            print(f"no plots: {error}")

    def farewell(self) -> None:
        """Where everything is, and what to type next."""
        seconds = f"{self.trainer.seconds:.1f} s of training"
        print(f"weights of step {self.best_step}, the best of {self.trainer.step}; {seconds}")
        for path in sorted(self.folder.iterdir()):
            print(f"  {path}")
        ds = command_here()
        print("\ntry next:")
        if self.trainer.stopped is None:  # a run that has ended early stays ended when it is resumed
            out = shlex.quote(str(self.folder))
            print(f"  {ds} train {self.name} --out {out} --resume --epochs {2 * self.options.epochs}")
        print(f"  {ds} check {self.name}", flush=True)

    def _network(self) -> Sequential:
        options, names = self.options, self.data.class_names
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

    def _refuse_single_rows(self) -> None:
        """Raise `UserError` where a process would see a batch of one row, of which there is no variance."""
        rows, processes = len(self.data.train), current().world_size
        size = self.options.batch_size or rows
        last = rows % size or size
        if last // processes < 2:
            each = "" if processes == 1 else f" for each of {processes} processes"
            raise UserError(
                f"--norm batch needs 2 rows in a batch{each}, and of {rows} training rows --batch-size "
                f"{self.options.batch_size} leaves {last} for the last one: take another size, or --norm layer"
            )

    def _announce(self, loader: Loader) -> None:
        count = sum(tensor.numel() for tensor in self.model.parameters())
        widths = (self.data.inputs, *self.options.hidden, self.model[-1].out_features)
        rows = ", ".join(
            f"{len(part):,} rows to {purpose}"
            for part, purpose in ((self.data.train, "train on"), (self.data.validation, "validate on"))
        )
        print(
            f"{count:,} parameters, {' -> '.join(map(str, widths))}, learn {self.data.source}: {rows}, "
            f"{len(self.data.test):,} to test on; "
            f"{loader.steps_per_epoch} steps an epoch, on {self.device}, {torch.get_num_threads()} thread(s)",
            flush=True,
        )
