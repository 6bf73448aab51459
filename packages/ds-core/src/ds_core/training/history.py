"""What a run measured, step by step: in memory, as a log of one JSON object a line, and as a plot."""

import errno
import json
import math
import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from ds_core.errors import UserError, WriteError
from ds_core.plotting import new_figure, save_figure

Record = dict[str, Any]

FINAL = "final"  # in the record of an evaluation that is there only because the run ended
NO_METRICS = ("kind", "step", FINAL)  # what a record has beside them


class History:
    """Records in the order they were made, each with `kind` ("train" or "evaluation") and `step`.

    The evaluation at the end of a run has `"final": true`, unless one was due at that step: the run would not have made
    it with more steps. `rewind` forgets it, and what was recorded after it.

    Args:
        log: where each record is also written, as a line of JSON, and seen by whoever reads along.
    """

    def __init__(self, log: str | Path | None = None) -> None:
        self.records: list[Record] = []
        self._log = None if log is None else JsonLines(log)

    @property
    def training(self) -> list[Record]:
        """One record a step: `loss`, `learning_rate`, `gradient_norm` where it is clipped, `seconds` so far."""
        return [record for record in self.records if record["kind"] == "train"]

    @property
    def evaluations(self) -> list[Record]:
        """What `evaluate` returned, and when."""
        return [record for record in self.records if record["kind"] == "evaluation"]

    def add(self, kind: str, step: int, **values: Any) -> Record:
        """Append a record and write its line.

        Raises:
            WriteError: the disk is full.
        """
        record = {"kind": kind, "step": step, **values}
        self.records.append(record)
        if self._log is not None:
            self._log.append(record)
        return record

    def check(self) -> None:
        """Raise the `UserError` that `rewind` would, and change nothing."""
        if self._log is not None:
            self._log.check()

    def rewind(self, step: int) -> None:
        """Forget what came after `step`, in the log too, and a final evaluation: a resumed run writes them again.

        Raises:
            UserError: the file is no log of ours.
        """
        if self._log is not None:
            self.records = self._log.rewind(step)
        else:
            self.records = list(takewhile(lambda record: _stays(record, step), self.records))

    def sync(self) -> None:
        """Bring the log to the disk: a checkpoint is never ahead of it."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def plot(self, path: str | Path, value: str = "loss") -> None:
        """Draw `value` against the step, training and evaluation, into a PNG.

        Raises:
            MissingPackageError: matplotlib is not installed.
            WriteError: the file cannot be written.
        """
        axes = (figure := new_figure()).add_subplot()
        styles: dict[str, dict[str, Any]] = {
            "training": {"alpha": 0.35, "linewidth": 0.8},
            "evaluation": {"marker": "o", "markersize": 3},
        }
        for (name, style), records in zip(styles.items(), (self.training, self.evaluations), strict=True):
            points = [(record["step"], record[value]) for record in records if record.get(value) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, **style)
        axes.set(xlabel="step", ylabel=value)
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend()
        save_figure(figure, path)


class JsonLines:
    """A file of one JSON object a line, opened at the first; without a buffer, so that readers see it at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any = None

    def append(self, record: Record) -> None:
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - stays open from step to step
            line = json.dumps(_strict(record)).encode() + b"\n"
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}") from error

    def check(self) -> None:
        """Raise the `UserError` that `rewind` would, and change nothing."""
        if self.path.exists():
            next(_records(self.path), None)

    def rewind(self, step: int) -> list[Record]:
        """Cut the file off after the last record of `step` or before, or before a final evaluation; returns the rest.

        A line that cannot be read (a write that was cut off) ends the file too.

        Raises:
            UserError: the file is no log of ours, and left as it is.
        """
        self.close()
        if not self.path.exists():
            return []
        kept, end = [], 0
        for record, after in _records(self.path):
            if not _stays(record, step):
                break
            kept.append(record)
            end = after
        os.truncate(self.path, end)
        return kept

    def sync(self) -> None:
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise WriteError(f"cannot write {self.path}: {error.strerror}") from error

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


def read_log(path: str | Path) -> Iterator[Record]:
    """The records of a log; a last line that was cut off is left out.

    Raises:
        UserError: the file is no log of ours.
    """
    for record, _ in _records(path):
        yield record


def _stays(record: Record, step: int) -> bool:
    return bool(record["step"] <= step and record.get(FINAL) is not True)


def _records(path: str | Path) -> Iterator[tuple[Record, int]]:
    """Each record up to the first line that cannot be read, and the number of bytes up to its end."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            record = _record(line)
            if record is None:
                # writes are cut off at their end: a first line that is whole, but no record, is another program's
                if end == 0 and line.endswith(b"\n"):
                    raise UserError(
                        f"{path} is no log of a training run: expected a record with kind and step in its first line, "
                        f"which begins {line[:40]!r}; move the file away, or take another folder"
                    )
                return
            end += len(line)
            yield record, end


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) and "kind" in record else None


def _strict(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: null."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
