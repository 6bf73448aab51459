"""Batches of a data set, shuffled in each epoch. Theory: docs/data.md."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ds_core.data.batches import rows_of_process
from ds_core.data.generators import keyed_generator
from ds_core.data.samples import Rows, as_rows

_SHUFFLE, _TRANSFORM = 0, 1  # second number of the key: what is drawn for

Transform = Callable[[Any, Any, torch.Generator], tuple[Any, Any]]


class Loader:
    """Every row once an epoch, epoch after epoch without end: a `Batches`.

    Batch number `index` is a function of the seed and `index` alone: epoch `index // steps_per_epoch` has an order of
    its own, drawn from a generator with the key (seed, epoch).

    If there are several processes, each takes its rows of the same batch (`rows_of_process`): their parts put together
    are the batch that one process would see. Parts differ by at most one row.

    Args:
        dataset: a `TensorDataset` or a tuple of its tensors, whatever has its `rows`, or a data set of single samples
            (see `Stacked`). The last part of a row is the target. What is before it are the inputs, a tuple if there
            are several.
        batch_size: rows of a batch, of all processes together; None: all rows in their own order, not copied.
        shuffle: a new order in each epoch; otherwise the data set's own.
        seed: any whole number of at least 0.
        drop_last: leave out what remains of an epoch when no whole batch is left.
        rank, world_size: the number of this process, from 0, and how many there are.
        transform: called with (inputs, target, generator), returns (inputs, target); rows of one part have the target
            None. What it draws from the generator, whose key is (seed, index, rank), is the same whenever the batch
            is drawn.
        device: where batches go, after `transform`.

    Raises:
        ValueError: an empty data set, an option out of range, or a batch with fewer rows than processes.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        transform: Transform | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"Loader: given batch_size={batch_size}, expected at least 1, or None for all rows")
        if seed < 0:
            raise ValueError(f"Loader: given seed={seed}, expected at least 0")
        if not 0 <= rank < world_size:
            raise ValueError(f"Loader: given rank={rank} and world_size={world_size}, expected 0 <= rank < world_size")
        self.dataset: Rows = as_rows(dataset)
        self.batch_size = batch_size
        self.shuffle = shuffle and batch_size is not None
        self.seed = seed
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.transform = transform
        self.device = None if device is None else _with_number(torch.device(device))
        self._count = len(self.dataset)
        self._rows = self._count if batch_size is None else batch_size
        self._order: tuple[int, Tensor] | None = None
        self._iterated = itertools.count()
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self._count == 0:
            raise ValueError("Loader: given an empty data set, expected at least one row")
        if self.steps_per_epoch == 0:
            raise ValueError(
                f"Loader: given batch_size={self.batch_size} and drop_last=True, the data set has {self._count} rows, "
                "so that no batch would be left"
            )
        least = min(self.rows(0), self.rows(self.steps_per_epoch - 1))
        if least < self.world_size:
            raise ValueError(
                f"Loader: the smallest batch of an epoch has {least} rows, expected at least one for each of the "
                f"{self.world_size} processes: take another batch_size, or drop_last=True"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._count // self._rows if self.drop_last else -(-self._count // self._rows)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def rows(self, index: int) -> int:
        """The rows of batch `index`, of all processes together."""
        start, end = self._bounds(index)
        return end - start

    def share(self, index: int) -> int:
        """The rows of batch `index` that this process has."""
        start, end = self._own(index)
        return end - start

    def batch(self, index: int) -> tuple[Any, Any]:
        """This process's part of batch `index` >= 0 -> inputs (n, ...), target (n, ...).

        Raises:
            IndexError: an index below 0.
            ValueError: rows of one part only, and no `transform` that makes two of it.
        """
        start, end = self._own(index)
        if self.shuffle:
            parts = self.dataset.rows(self._order_of(index // self.steps_per_epoch)[start:end])
        else:
            parts = self.dataset.rows(slice(start, end))
        inputs, target = self._divide(parts)
        if self.transform is not None:
            key = (self.seed, _TRANSFORM, index, self.rank)
            inputs, target = self.transform(inputs, target, keyed_generator(*key))
        return (inputs, target) if self.device is None else (_to(inputs, self.device), _to(target, self.device))

    def epoch(self, number: int) -> Iterator[tuple[Any, Any]]:
        """The batches of epoch `number`, from 0 on."""
        for step in range(self.steps_per_epoch):
            yield self.batch(number * self.steps_per_epoch + step)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """One epoch; each time the next one."""
        return self.epoch(next(self._iterated))

    def _divide(self, parts: tuple[Any, ...]) -> tuple[Any, Any]:
        if len(parts) > 1:
            return (parts[0] if len(parts) == 2 else parts[:-1]), parts[-1]
        if self.transform is None:
            raise ValueError(
                "Loader: the rows have one part, expected inputs and a target; for a target that is the input take "
                "transform=lambda inputs, target, generator: (inputs, inputs)"
            )
        return parts[0], None

    def _bounds(self, index: int) -> tuple[int, int]:
        """The rows of batch `index` in its epoch: the first one's position, and the last one's + 1."""
        if index < 0:
            raise IndexError(f"Loader: given index {index}, expected at least 0")
        start = index % self.steps_per_epoch * self._rows  # B (i mod S)                              (1)
        return start, min(start + self._rows, self._count)

    def _own(self, index: int) -> tuple[int, int]:
        """Those of them that are this process's."""
        start, end = self._bounds(index)
        first, last = rows_of_process(end - start, self.rank, self.world_size)
        return start + first, start + last

    def _order_of(self, epoch: int) -> Tensor:
        kept = self._order
        if kept is None or kept[0] != epoch:
            generator = keyed_generator(self.seed, _SHUFFLE, epoch)
            # as one assignment, because a Prefetch asks from another thread
            self._order = kept = (epoch, torch.randperm(self._count, generator=generator))
        return kept[1]


def _with_number(device: torch.device) -> torch.device:
    """`cuda` as `cuda:0`, if that is current here: in another thread it may not be."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _to(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_to(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value
