"""How a batch of sequences lies in memory, and the rows that a recurrent layer makes of it. Theory: docs/layout.md."""

import operator
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from ds_core import ShapeError
from ds_core.arguments import shown
from ds_core.engine.trace import describe
from torch import Tensor

# N = sequences, T = steps of the longest, F = numbers of a step, S = states (layers times directions).
# R = rows: the first step of all sequences, the second step of those that have one, ..., the longest sequence first.

PACKED_FIELDS = ("data", "batch_sizes", "sorted_indices", "unsorted_indices")


class Layout:
    """One form that a batch can have.

    `rows` and `whole` only move numbers, and put zeros where there is none: each is the transpose of the other, and so
    its gradient. The same holds of `states` and `states_back`.

    Attributes:
        batch_sizes: b_t, how many sequences have a step t.
        order: (N,), the sequences from the longest to the shortest; None if they come so.
    """

    batch_sizes: tuple[int, ...]
    order: Tensor | None = None

    @property
    @abstractmethod
    def sequences(self) -> int:
        """N."""

    @abstractmethod
    def rows(self, batch: Any) -> Tensor:
        """A batch in this form -> (R, F)."""

    @abstractmethod
    def whole(self, rows: Tensor) -> Any:
        """(R, F) -> a batch in this form."""

    def state_shape(self, count: int, size: int) -> tuple[int, ...]:
        """What `count` states of all sequences look like, of `size` numbers each."""
        return (count, self.sequences, size)

    def states(self, states: Tensor) -> Tensor:
        """States (S, N, F) -> the same in the order of the rows."""
        return states if self.order is None else states.index_select(1, self.order)

    def states_back(self, states: Tensor) -> Tensor:
        """States in the order of the rows -> (S, N, F)."""
        return states if self.order is None else torch.empty_like(states).index_copy(1, self.order, states)


class Padded(Layout):
    """(T, N, F), or (N, T, F) with `batch_first`, or one sequence (T, F); all are T steps long."""

    def __init__(self, batch: Tensor, batch_first: bool) -> None:
        self._alone = batch.dim() == 2
        self._batch_first = batch_first and not self._alone
        self._steps, self._sequences = self._time_first(batch).shape[:2]
        self.batch_sizes = (self._sequences,) * self._steps

    @property
    def sequences(self) -> int:
        return self._sequences

    def rows(self, batch: Tensor) -> Tensor:
        return self._time_first(batch).flatten(0, 1)

    def whole(self, rows: Tensor) -> Tensor:
        batch = rows.view(self._steps, self._sequences, rows.shape[1])
        if self._alone:
            return batch.squeeze(1)
        return batch.transpose(0, 1) if self._batch_first else batch

    def state_shape(self, count: int, size: int) -> tuple[int, ...]:
        return (count, size) if self._alone else super().state_shape(count, size)

    def states(self, states: Tensor) -> Tensor:
        return super().states(states.unsqueeze(1) if self._alone else states)

    def states_back(self, states: Tensor) -> Tensor:
        states = super().states_back(states)
        return states.squeeze(1) if self._alone else states

    def _time_first(self, batch: Tensor) -> Tensor:
        if self._alone:
            return batch.unsqueeze(1)
        return batch.transpose(0, 1) if self._batch_first else batch


class PaddedWithLengths(Padded):
    """`Padded`, where sequence n is `lengths[n]` steps long and what comes after is padding, whatever stands there."""

    def __init__(self, batch: Tensor, batch_first: bool, lengths: Sequence[int]) -> None:
        super().__init__(batch, batch_first)
        # stable, so that sequences that come sorted stay as they are
        order = sorted(range(len(lengths)), key=lambda n: -lengths[n])
        self.batch_sizes = tuple(sum(length > t for length in lengths) for t in range(max(lengths, default=0)))
        self.order = None if order == list(range(len(order))) else torch.tensor(order, device=batch.device)
        places = [t * self.sequences + n for t, count in enumerate(self.batch_sizes) for n in order[:count]]
        self._places = torch.tensor(places, dtype=torch.int64, device=batch.device)

    def rows(self, batch: Tensor) -> Tensor:
        return super().rows(batch).index_select(0, self._places)

    def whole(self, rows: Tensor) -> Tensor:
        padded = rows.new_zeros(self._steps * self.sequences, rows.shape[1])
        return super().whole(padded.index_copy(0, self._places, rows))


class Packed(Layout):
    """An object with the four fields of PyTorch's PackedSequence: rows already.

    What comes out is made by its class, which takes the four by their names.
    """

    def __init__(self, batch: Any) -> None:
        self._class = type(batch)
        self._fields = {name: getattr(batch, name) for name in PACKED_FIELDS[1:]}
        self.batch_sizes = tuple(batch.batch_sizes.tolist())
        self.order = batch.sorted_indices

    @property
    def sequences(self) -> int:
        return self.batch_sizes[0] if self.batch_sizes else 0

    def rows(self, batch: Any) -> Tensor:
        data: Tensor = batch if isinstance(batch, Tensor) else batch.data
        return data

    def whole(self, rows: Tensor) -> Any:
        return self._class(data=rows, **self._fields)


def layout_of(layer: Any, batch: Any, lengths: Any, input_size: int, batch_first: bool) -> Layout:
    """How this batch lies.

    Raises:
        ShapeError: it is of another rank or size, it has no steps, or the lengths do not fit it.
        TypeError: it is neither a tensor nor packed, or lengths are given beside a packed batch, which has its own.
    """
    if all(hasattr(batch, name) for name in PACKED_FIELDS):
        if lengths is not None:
            raise TypeError(
                f"{describe(layer)}: given lengths beside a packed input, which has its own: leave them out"
            )
        _check_packed(layer, batch, input_size)
        return Packed(batch)
    if not isinstance(batch, Tensor):
        raise TypeError(
            f"{describe(layer)}: given a {type(batch).__name__} as input, expected a tensor or a packed sequence"
        )
    if batch.dim() not in (2, 3) or batch.shape[-1] != input_size:
        expected = f"(N, T, {input_size})" if batch_first else f"(T, N, {input_size})"
        raise ShapeError(
            f"{describe(layer)}: given input of shape {tuple(batch.shape)}, expected {expected}, or (T, {input_size}) "
            "for one sequence"
        )
    steps = batch.shape[0] if batch.dim() == 2 or not batch_first else batch.shape[1]
    if lengths is None:
        if steps == 0:
            raise ShapeError(
                f"{describe(layer)}: given input of shape {tuple(batch.shape)}, expected at least one step, or lengths"
            )
        return Padded(batch, batch_first)
    sequences = 1 if batch.dim() == 2 else batch.shape[0 if batch_first else 1]
    return PaddedWithLengths(batch, batch_first, read_lengths(layer, lengths, sequences, steps))


def read_lengths(layer: Any, lengths: Any, sequences: int, steps: int) -> list[int]:
    """One whole number from 0 to T for each sequence, from a tensor or a sequence of them.

    Raises:
        ShapeError: there are more or fewer, or they are no whole numbers of this range.
    """
    given = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    if not isinstance(given, Sequence) or len(given) != sequences:
        raise ShapeError(
            f"{describe(layer)}: given lengths {shown(lengths)}, expected {sequences}, one for each sequence"
        )
    found = []
    for n, length in enumerate(given):
        try:
            found.append(-1 if isinstance(length, bool) else operator.index(length))
        except TypeError:
            found.append(-1)
        if not 0 <= found[-1] <= steps:
            raise ShapeError(
                f"{describe(layer)}: given lengths[{n}] = {length!r}, expected a whole number from 0 to {steps}"
            )
    return found


def _check_packed(layer: Any, batch: Any, input_size: int) -> None:
    shape = tuple(batch.data.shape)
    sizes = batch.batch_sizes.tolist()
    if len(shape) != 2 or shape[1] != input_size or sum(sizes) != shape[0]:
        raise ShapeError(
            f"{describe(layer)}: given packed input of shape {shape} and batch_sizes {sizes}, expected "
            f"({sum(sizes)}, {input_size})"
        )
    if any(after > before for before, after in pairwise(sizes)):
        raise ShapeError(f"{describe(layer)}: given packed input with batch_sizes {sizes}, which must never rise")
    if batch.sorted_indices is not None and len(batch.sorted_indices) != (sizes[0] if sizes else 0):
        raise ShapeError(
            f"{describe(layer)}: given packed input with {len(batch.sorted_indices)} sorted_indices and batch_sizes "
            f"{sizes}, which begin with the number of sequences"
        )
