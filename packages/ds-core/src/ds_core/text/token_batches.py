"""Batches with about the same number of tokens, of sentences of similar length. Theory: docs/token_batches.md."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ds_core.data.batches import rows_of_process
from ds_core.data.generators import keyed_generator

# N = pairs, B = rows of a batch, Ts = its longest source, Tt = its longest target plus one for begin or end

_ROWS, _BATCHES = 0, 1  # second number of the key: what the draw decides

TokenBatch = tuple[tuple[Tensor, Tensor], Tensor]


class TokenBatches:
    """Every pair once per epoch, epoch after epoch without end: a `Batches` to train or evaluate a translation on.

    Pairs are sorted by length, the longer of source and target; pairs of equal length are shuffled in each epoch.
    Neighbours are cut into batches of as many rows as `max_tokens` allows, and the batches are shuffled. The lengths,
    and with them the cuts, are the same in every epoch. Batch `index` is a function of the seed and `index` alone.

    With several processes, each takes a contiguous part of the same batch, padded like the whole: the parts put
    together are the batch that one process would see.

    Args:
        source, target: tokens of each sentence, without begin, end and padding.
        max_tokens: neither B Ts nor B Tt exceeds it, padding and begin or end included, over all processes together.
        pad, begin, end: the numbers of these tokens.
        seed: any whole number of at least 0.
        shuffle: a new order in each epoch; otherwise from short to long, equal lengths in the order given.
        device: where batches go.
        rank, world_size: the number of this process, from 0, and how many there are.

    Raises:
        ValueError: there are no pairs, the numbers of sources and targets differ, a source is empty, a sentence is
            longer than `max_tokens` or contains the token `pad`, an option is out of range, or a batch has fewer rows
            than there are processes.
    """

    def __init__(
        self,
        source: Sequence[Sequence[int]],
        target: Sequence[Sequence[int]],
        max_tokens: int,
        *,
        pad: int,
        begin: int,
        end: int,
        seed: int = 0,
        shuffle: bool = True,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not len(source) and not len(target):
            raise ValueError("TokenBatches: given no pairs, expected at least one")
        if len(source) != len(target):
            raise ValueError(f"TokenBatches: given {len(source)} sources and {len(target)} targets, expected as many")
        if seed < 0:
            raise ValueError(f"TokenBatches: given seed={seed}, expected at least 0")
        if not 0 <= rank < world_size:
            raise ValueError(f"TokenBatches: given rank={rank}, world_size={world_size}, expected 0 <= rank < it")
        if pad in (begin, end):
            raise ValueError(f"TokenBatches: given pad={pad}, begin={begin}, end={end}, expected pad to differ")
        self.max_tokens, self.seed, self.shuffle = max_tokens, seed, shuffle
        self.pad, self.begin, self.end = pad, begin, end
        self.rank, self.world_size = rank, world_size
        self.device = None if device is None else torch.device(device)
        self._source = _Ragged(source, pad, "source")
        self._target = _Ragged(target, pad, "target")
        self._lengths = torch.maximum(self._source.lengths, self._target.lengths + 1)  # (2)
        self._check_lengths()
        self._order: tuple[int, Tensor, Tensor] | None = None
        growing, self._in_order = torch.sort(self._lengths, stable=True)
        self._cuts = _cuts(growing.tolist(), max_tokens)
        least = min(end - start for start, end in self._cuts)
        if least < world_size:
            raise ValueError(
                f"TokenBatches: the smallest batch has {least} row(s), expected at least one for each of the "
                f"{world_size} processes: take another max_tokens than {max_tokens}"
            )

    def _check_lengths(self) -> None:
        empty = torch.nonzero(self._source.lengths == 0).flatten().tolist()
        if empty:
            raise ValueError(f"TokenBatches: the source of pair {empty[0]} is empty, expected at least one token")
        longest = int(torch.argmax(self._lengths))
        if self._lengths[longest] > self.max_tokens:
            raise ValueError(
                f"TokenBatches: pair {longest} has {int(self._source.lengths[longest])} source tokens and "
                f"{int(self._target.lengths[longest])} target tokens and one for its end, expected at most "
                f"max_tokens={self.max_tokens}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self._cuts)

    def __len__(self) -> int:
        return self.steps_per_epoch

    def rows(self, index: int) -> int:
        """The rows of batch `index`, over all processes together."""
        return len(self.row_numbers(index))

    def row_numbers(self, index: int) -> list[int]:
        """Which pairs are in batch `index`, over all processes together, in the order of its rows."""
        numbers: list[int] = self._rows(index).tolist()
        return numbers

    def share(self, index: int) -> int:
        """The rows of batch `index` that this process has."""
        return len(self._own(self._rows(index)))

    def batch(self, index: int) -> TokenBatch:
        """This process's part of batch `index` >= 0.

        Returns:
            ((source (B, Ts), begin and target (B, Tt)), target and end (B, Tt)), int64, padded at the end.

        Raises:
            IndexError: an index below 0.
        """
        rows = self._rows(index)
        own = self._own(rows)
        source = self._source.padded(own, int(self._source.lengths[rows].max()))
        lengths = self._target.lengths[own]
        width = int(self._target.lengths[rows].max())
        target = self._target.padded(own, width)
        first = torch.full((len(own), 1), self.begin)
        last = torch.full((len(own), 1), self.pad)
        target_in = torch.cat([first, target], dim=1)
        target_out = torch.cat([target, last], dim=1)
        target_out[torch.arange(len(own)), lengths] = self.end
        if self.device is None:
            return (source, target_in), target_out
        return (source.to(self.device), target_in.to(self.device)), target_out.to(self.device)

    def epoch(self, number: int) -> Iterator[TokenBatch]:
        """The batches of epoch `number`, from 0 on."""
        for step in range(self.steps_per_epoch):
            yield self.batch(number * self.steps_per_epoch + step)

    def padding_share(self, number: int = 0) -> float:
        """The share of padding in an epoch's batches, sources and targets; it differs little between epochs."""
        elements = tokens = 0
        for step in range(self.steps_per_epoch):
            rows = self._rows(number * self.steps_per_epoch + step)
            for lengths in (self._source.lengths[rows], self._target.lengths[rows] + 1):
                elements += len(rows) * int(lengths.max())
                tokens += int(lengths.sum())
        return 1 - tokens / elements

    def _rows(self, index: int) -> Tensor:
        if index < 0:
            raise IndexError(f"TokenBatches: given index {index}, expected at least 0")
        epoch, step = divmod(index, self.steps_per_epoch)
        if not self.shuffle:
            start, end = self._cuts[step]
            return self._in_order[start:end]
        order, batches = self._order_of(epoch)
        start, end = self._cuts[int(batches[step])]
        return order[start:end]

    def _own(self, rows: Tensor) -> Tensor:
        begin, end = rows_of_process(len(rows), self.rank, self.world_size)
        return rows[begin:end]

    def _order_of(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The pairs of an epoch by length, and the order of its batches."""
        kept = self._order
        if kept is None or kept[0] != epoch:
            shuffled = torch.randperm(len(self._lengths), generator=keyed_generator(self.seed, _ROWS, epoch))
            by_length = torch.sort(self._lengths[shuffled], stable=True).indices
            batches = torch.randperm(self.steps_per_epoch, generator=keyed_generator(self.seed, _BATCHES, epoch))
            # as one assignment, because a Prefetch asks from another thread
            self._order = kept = (epoch, shuffled[by_length], batches)
        return kept[1], kept[2]


class _Ragged:
    """Sentences one after the other in one tensor, from which padded rows are gathered."""

    def __init__(self, sentences: Sequence[Sequence[int]], pad: int, name: str) -> None:
        self.pad = pad
        self.lengths = torch.tensor([len(sentence) for sentence in sentences])
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths
        self.tokens = torch.tensor([token for sentence in sentences for token in sentence] + [pad])
        found = torch.nonzero(self.tokens[:-1] == pad).flatten().tolist()
        if found:
            row = int(torch.searchsorted(self.starts + self.lengths, torch.tensor(found[0]), right=True))
            raise ValueError(f"TokenBatches: the {name} of pair {row} has the token pad={pad} in it")

    def padded(self, rows: Tensor, width: int) -> Tensor:
        """-> (len(rows), width)."""
        columns = torch.arange(width)
        inside = columns < self.lengths[rows, None]
        return self.tokens[torch.where(inside, self.starts[rows, None] + columns, len(self.tokens) - 1)]


def _cuts(lengths: list[int], max_tokens: int) -> list[tuple[int, int]]:
    """Where batches begin and end in rows sorted by length: as large as allowed, the last two evened out."""
    starts = [0]
    for row, length in enumerate(lengths):
        if (row + 1 - starts[-1]) * length > max_tokens:  # B max(Ts, Tt) <= max_tokens                    (1)
            starts.append(row)
    if len(starts) > 1:
        rows = min((len(lengths) - starts[-2]) // 2, max_tokens // lengths[-1])
        starts[-1] = min(starts[-1], len(lengths) - rows)
    return list(zip(starts, [*starts[1:], len(lengths)], strict=True))
