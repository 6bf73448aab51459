"""The data of a recipe: a data set by name or a CSV file, split, and scaled by what the training rows are like."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ds_core.data.datasets import load
from ds_core.data.scaling import Standardise
from ds_core.data.splits import split
from ds_core.data.tables import Table, Task, read_csv
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.errors import UserError
from ds_core.recipes.options import TableOptions
from ds_core.training.same_data import digest_of


@dataclass(frozen=True)
class Prepared:
    """Training, validation and test rows as the network sees them.

    Attributes:
        source: the data set's name or the file's path.
        target: the column to predict, or the data set's name again.
        inputs: how many numbers a row has.
        class_names: None for regression.
        targets: what brought the targets of regression to mean 0 and variance 1; None for classes.
        digest: of the training rows, for `SameData`.
    """

    source: str
    target: str
    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    inputs: int
    class_names: tuple[str, ...] | None
    targets: Standardise | None
    digest: str


def prepare(options: TableOptions, task: Task, device: torch.device) -> Prepared:
    """Read, split and scale. Tables are standardised column by column, images left as they are, from 0 to 1.

    Raises:
        UserError: data that cannot be had or read, or is for another task.
    """
    parts, class_names, images, source, target = _parts(options, task)
    inputs = Standardise().fit(parts[0].tensors[0])
    targets = None if task == "classification" else Standardise().fit(parts[0].tensors[1])

    def scaled(part: TensorDataset) -> TensorDataset:
        x, y = part.tensors
        x = x if images else inputs.transform(x)
        return TensorDataset(x.to(device), (y if targets is None else targets.transform(y).unsqueeze(1)).to(device))

    train, validation, test = map(scaled, parts)
    size = train.tensors[0][0].numel()
    return Prepared(source, target, train, validation, test, size, class_names, targets, digest_of(*train.tensors))


def _parts(
    options: TableOptions, task: Task
) -> tuple[tuple[TensorDataset, ...], tuple[str, ...] | None, bool, str, str]:
    """Training, validation and test part as read, the names of classes, whether they are images, source and target."""
    if options.csv is None:
        found = load(
            options.dataset, folder=options.folder, validation=options.validation, test=options.test, seed=options.seed
        )
        if found.task != task:
            raise UserError(f"--dataset {options.dataset} is for {found.task}, this recipe for {task}")
        images = not found.feature_names
        return (found.train, found.validation, found.test), found.class_names, images, options.dataset, options.dataset
    table = read_csv(
        options.csv,
        options.target or -1,
        task=task,
        encoding=options.encoding,
        drop_faulty=options.drop_faulty,
    )
    if table.class_names is not None:
        _check_members(table, options.csv)
    labels = table.target if task == "classification" else None
    shares = (1 - options.validation - options.test, options.validation, options.test)
    try:
        parts = split(table.dataset(), shares, seed=options.seed, stratify=labels)
    except ValueError as error:  # too few rows, of a class or at all
        raise UserError(f"{options.csv}: {error}") from error
    dropped = f" without {table.dropped} faulty row(s)" if table.dropped else ""
    return parts, table.class_names, False, f"{options.csv}{dropped}", table.target_name


def _check_members(table: Table, path: Path) -> None:
    """Raise `UserError` if there is nothing to tell apart, or a class is too small to be in every part."""
    names = table.class_names or ()
    if len(names) < 2:
        raise UserError(f"{path}: {table.target_name!r} is {names[0]!r} in every row, expected two classes at least")
    members = torch.bincount(table.target, minlength=len(names))
    rarest = int(members.argmin())
    if int(members[rarest]) < 3:
        raise UserError(
            f"{path}: of {len(names)} classes of {table.target_name!r}, {names[rarest]!r} has {int(members[rarest])} "
            "row(s), expected 3 at least, one for each part; is it a number to predict? ds train regression"
        )


def rows_of(part: TensorDataset, size: int = 4096) -> list[tuple[Tensor, Tensor]]:
    """(inputs, target) in batches, for `evaluate` and `predict`."""
    x, y = part.tensors
    return list(zip(torch.split(x, size), torch.split(y, size), strict=True))
