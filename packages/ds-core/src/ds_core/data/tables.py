"""Columns of text as tensors: numbers as they are, categories one-hot or as codes, one column as the target."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ds_core.data.csv_rows import DROP_FAULTY, TextRows, is_number, read_rows
from ds_core.data.one_hot import one_hot
from ds_core.data.tensor_dataset import TensorDataset
from ds_core.errors import UserError, did_you_mean

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null")

Column = str | int
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Table:
    """A file's rows as tensors. N = rows, F = features.

    Attributes:
        columns: the file's columns that are in `inputs`.
        inputs: (N, F).
        target: (N,), int64 for classification.
        task: "classification" or "regression".
        feature_names: F; a category's input is called "column=category".
        target_name: the target's column.
        class_names: what the numbers of the target stand for; None for regression.
        categories: those of each categorical column, in the order of their codes.
        encode: how they stand in `inputs`, "one_hot" or "codes".
        dropped: rows that were left out.
    """

    columns: tuple[str, ...]
    inputs: Tensor
    target: Tensor
    task: Task
    feature_names: tuple[str, ...]
    target_name: str
    class_names: tuple[str, ...] | None
    categories: Mapping[str, tuple[str, ...]]
    encode: Literal["one_hot", "codes"]
    dropped: int

    def dataset(self) -> TensorDataset:
        """TextRows (input, target), to be split and loaded."""
        return TensorDataset(self.inputs, self.target)


def read_csv(
    path: str | Path,
    target: Column = -1,
    *,
    task: Task | None = None,
    categorical: Collection[Column] = (),
    encode: Literal["one_hot", "codes"] = "one_hot",
    ignore: Collection[Column] = (),
    missing: Collection[str] = MISSING,
    drop_faulty: bool = False,
    like: Table | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> Table:
    """Read a CSV file. A column is numeric if all of its values are numbers, categorical if none is.

    Args:
        path: the file.
        target: the column to be predicted, by name or by number from 0, below 0 from the end.
        task: None: classification if the target's values are no numbers.
        categorical: columns of numbers that are categories.
        encode: categories as one column each, of 0 and 1, or in one column as numbers from 0.
        ignore: columns to leave out.
        missing: the values that stand for none.
        drop_faulty: leave out rows with a value missing in a column that is used, or with too many or too few of them;
            otherwise they are errors.
        like: a table read before: the same columns, categories and classes, so that a file of test rows fits the model;
            `target`, `task`, `categorical`, `encode` and `ignore` are then that table's.
        dtype: of the inputs, and of the target in regression; None: the default dtype.
        device: where the tensors go.
        options: of `csv.read_rows`: delimiter, header, encoding.

    Raises:
        UserError: as of `read_rows`; a column that is not there, or holds both numbers and text; with `like` a column
            that is missing, or a category or class that is new; the line and the column are named.
        ValueError: another `task` or `encode`.
    """
    if task not in (None, "classification", "regression") or encode not in ("one_hot", "codes"):
        raise ValueError(
            f"read_csv: given task={task!r} and encode={encode!r}, expected classification or regression, "
            "and one_hot or codes"
        )
    rows = read_rows(path, drop_faulty=drop_faulty, **options)
    if like is None:
        aim = _column_index(rows, target)
        left_out = {aim, *(_column_index(rows, column) for column in ignore)}
        indices = [index for index in range(len(rows.names)) if index not in left_out]
    else:
        aim, encode, task = _column_index(rows, like.target_name), like.encode, like.task
        indices = [_column_index(rows, name) for name in like.columns]
    if not indices:
        raise UserError(f"{path} has no column but the target {rows.names[aim]!r}, expected inputs as well")
    rows = _complete(rows, [*indices, aim], missing, drop_faulty)
    forced = set() if like is not None else {_column_index(rows, column) for column in categorical}
    categories: dict[str, tuple[str, ...]] = {}
    feature_names, parts = [], []
    dtype = torch.get_default_dtype() if dtype is None else dtype
    for index in indices:
        name = rows.names[index]
        known = None if like is None else like.categories.get(name)
        if known is None and (like is not None or not (index in forced or _is_text(rows, index))):
            feature_names.append(name)
            parts.append(_numbers(rows, index, dtype).unsqueeze(1))
            continue
        categories[name] = known = _sorted(rows, index) if known is None else known
        codes = _codes(rows, index, known)
        one = encode == "one_hot"
        feature_names += [f"{name}={category}" for category in known] if one else [name]
        parts.append(one_hot(codes, len(known), dtype) if one else codes.to(dtype).unsqueeze(1))
    if task is None:
        task = "classification" if _is_text(rows, aim) else "regression"
    class_names = None
    if task == "classification":
        class_names = _sorted(rows, aim) if like is None or like.class_names is None else like.class_names
    answers = _numbers(rows, aim, dtype) if class_names is None else _codes(rows, aim, class_names)
    return Table(
        columns=tuple(rows.names[index] for index in indices),
        inputs=torch.cat(parts, 1).to(device),
        target=answers.to(device),
        task=task,
        feature_names=tuple(feature_names),
        target_name=rows.names[aim],
        class_names=class_names,
        categories=categories,
        encode=encode,
        dropped=rows.dropped,
    )


def read_column(
    path: str | Path, column: Column = -1, *, dtype: torch.dtype | None = None, **options: Any
) -> tuple[Tensor, str]:
    """One column of numbers of a CSV file, in the order of its rows -> (rows,), and its name.

    Args:
        path: the file.
        column: by name or by number from 0, below 0 from the end.
        dtype: None: the default dtype.
        options: of `csv.read_rows`: delimiter, header, encoding.

    Raises:
        UserError: as of `read_rows`; a column that is not there; a value that is missing or no finite number, with its
            line and column.
    """
    rows = read_rows(path, drop_faulty=None, **options)  # the rows after one that is left out would move up
    index = _column_index(rows, column)
    return _numbers(rows, index, torch.get_default_dtype() if dtype is None else dtype), rows.names[index]


def _column_index(rows: TextRows, column: Column) -> int:
    """A column's index, from 0."""
    count = len(rows.names)
    if isinstance(column, str):
        if column not in rows.names:
            near = did_you_mean(column, rows.names)
            raise UserError(f"{rows.path} has no column {column!r}{near}; it has {', '.join(rows.names)}")
        return rows.names.index(column)
    if not -count <= column < count:
        raise UserError(f"{rows.path} has {count} column(s), given number {column}, expected {-count} to {count - 1}")
    return column % count


def _complete(rows: TextRows, columns: Sequence[int], missing: Collection[str], drop_faulty: bool) -> TextRows:
    """The rows that have a value in all of these columns."""
    lines, values = [], []
    for line, row in zip(rows.lines, rows.values, strict=True):
        empty = next((column for column in columns if row[column] in missing), None)
        if empty is None:
            lines.append(line)
            values.append(row)
        elif not drop_faulty:
            shown = f" but {row[empty]!r}" if row[empty] else ""
            raise UserError(
                f"{_where(rows, line, empty)}: no value{shown} {DROP_FAULTY}; read_csv(missing=...) says what stands "
                "for none"
            )
    dropped = rows.dropped + len(rows.values) - len(values)
    if not values:
        raise UserError(f"{rows.path} has no rows but {dropped} faulty ones")
    return dataclasses.replace(rows, lines=lines, values=values, dropped=dropped)


def _is_text(rows: TextRows, column: int) -> bool:
    """Whether no value of the column is a number; a UserError if some are."""
    numeric = is_number(rows.values[0][column])
    for line, row in zip(rows.lines, rows.values, strict=True):
        if is_number(row[column]) != numeric:
            unlike = "is no number, as those before are" if numeric else "is a number, and those before are not"
            raise UserError(
                f"{_where(rows, line, column)}: {row[column]!r} {unlike}; "
                f"categorical=[{rows.names[column]!r}] reads all as categories, for a target task='classification'"
            )
    return not numeric


def _numbers(rows: TextRows, column: int, dtype: torch.dtype) -> Tensor:
    """(N,), all finite."""
    numbers = []
    for line, row in zip(rows.lines, rows.values, strict=True):
        number = float(row[column]) if is_number(row[column]) else math.nan
        if not math.isfinite(number):
            raise UserError(f"{_where(rows, line, column)}: given {row[column]!r}, expected a finite number")
        numbers.append(number)
    found = torch.tensor(numbers, dtype=torch.float64).to(dtype)
    beyond = found.isinf().nonzero()
    if len(beyond) > 0:
        first = int(beyond[0])
        raise UserError(
            f"{_where(rows, rows.lines[first], column)}: given {rows.values[first][column]!r}, too large for {dtype}"
        )
    return found


def _sorted(rows: TextRows, column: int) -> tuple[str, ...]:
    """The different values of a column: numbers by size, text by its letters."""
    found = {row[column] for row in rows.values}
    if all(is_number(value) for value in found):
        return tuple(sorted(found, key=lambda value: (float(value), value)))
    return tuple(sorted(found))


def _codes(rows: TextRows, column: int, known: Sequence[str]) -> Tensor:
    """(N,) int64, the index of each value in `known`."""
    code_of = {value: code for code, value in enumerate(known)}
    codes = []
    for line, row in zip(rows.lines, rows.values, strict=True):
        if row[column] not in code_of:
            raise UserError(f"{_where(rows, line, column)}: {row[column]!r} is none of the known {', '.join(known)}")
        codes.append(code_of[row[column]])
    return torch.tensor(codes)


def _where(rows: TextRows, line: int, column: int) -> str:
    return f"{rows.path}, line {line}, column {column + 1}, {rows.names[column]!r}"
