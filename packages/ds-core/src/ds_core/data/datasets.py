"""Data sets by name. What there is: docs/data.md."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ds_core.data.california_housing import california_housing
from ds_core.data.cifar import cifar10
from ds_core.data.digit_images import PUBLISHED, digit_images
from ds_core.data.raw_dataset import Source
from ds_core.data.scikit_learn import NAMES, from_scikit_learn
from ds_core.data.splits import split
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.errors import UserError, did_you_mean

DATA_SETS = tuple(sorted([*NAMES, *PUBLISHED, "california_housing", "cifar10"]))


@dataclass(frozen=True)
class DataSet:
    """A data set in three parts, each of rows (inputs, target).

    Attributes:
        inputs of a part: images (N, channels, height, width) of 0 to 1, or tables (N, features) as measured.
        targets of a part: (N,), class numbers int64, or numbers of the dtype of the inputs.
        task: "classification" or "regression".
        feature_names: of a table's columns; empty for images.
        class_names: what the class numbers stand for; None for regression.
        description: what it is and who made it.
    """

    name: str
    task: Literal["classification", "regression"]
    train: TensorDataset
    validation: TensorDataset
    test: TensorDataset
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    description: str


def load(
    name: str,
    *,
    folder: str | Path | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> DataSet:
    """A data set by name, one of `DATA_SETS`. Classes have the same shares in all parts.

    Args:
        folder: where the files are that would be downloaded; None: they are downloaded once, see `download`.
        validation: the share of the rows for validation, 0 for none; where a test part was published, of the others.
        test: the share of the rows for the test, 0 for none; where one was published it is that one.
        seed: of the split.
        dtype: of inputs, and of targets in regression; None: the default dtype. torch.uint8 leaves images as published.
        device: where the tensors go.
        progress: whether downloads show a bar.

    Raises:
        UserError: an unknown name, or files that cannot be had or read.
        ValueError: a dtype or shares that do not fit.
    """
    source = _source(name, folder, progress)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_floating_point and (dtype != torch.uint8 or source.largest is None):
        allowed = "a floating-point one" + ("" if source.largest is None else " or torch.uint8")
        raise ValueError(f"load: given dtype {dtype} for {name}, expected {allowed}")
    train, for_validation, for_test = _parts(source, validation, test, seed)

    def finished(rows: tuple[Tensor, ...]) -> TensorDataset:
        inputs, target = rows
        inputs = inputs.to(device, dtype)
        if source.largest is not None and dtype != torch.uint8:
            inputs.div_(source.largest)  # a copy already, images being published as uint8
        return TensorDataset(inputs, target.to(device) if source.task == "classification" else target.to(device, dtype))

    return DataSet(
        name=name,
        task=source.task,
        train=finished(train),
        validation=finished(for_validation),
        test=finished(for_test),
        feature_names=source.feature_names,
        class_names=source.class_names,
        description=source.description,
    )


def _source(name: str, folder: str | Path | None, progress: bool) -> Source:
    if name not in DATA_SETS:
        raise UserError(f"unknown data set {name!r}{did_you_mean(name, DATA_SETS)} (there are {', '.join(DATA_SETS)})")
    if name in NAMES:
        if folder is not None:
            raise UserError(f"{name} comes with scikit-learn, it is not read from a folder")
        return from_scikit_learn(name)
    if name in PUBLISHED:
        return digit_images(name, folder, progress)
    if name == "cifar10":
        return cifar10(folder, progress)
    return california_housing(folder, progress)


def _parts(source: Source, validation: float, test: float, seed: int) -> list[tuple[Tensor, ...]]:
    """Training, validation and test rows; a share of 0 is a part without rows."""
    if source.test is not None:
        test = 0.0
    shares = [1 - validation - test, validation, test]
    if min(shares) < 0 or shares[0] == 0:
        raise ValueError(f"load: given validation={validation} and test={test}, expected shares of less than 1 in all")
    stratify = source.rows[1] if source.task == "classification" else None
    found = iter(split(source.rows, [share for share in shares if share > 0], seed=seed, stratify=stratify))
    empty = tuple(tensor[:0] for tensor in source.rows)
    parts = [next(found) if share > 0 else empty for share in shares]
    if source.test is not None:
        parts[2] = source.test
    return parts
