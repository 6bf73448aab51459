"""The rows of every batch that belong to one process. Theory: docs/distributed.md."""

from typing import Any

from torch import Tensor

from ds_core.data.batches import Batches, rows_of_process
from ds_core.engine.nested_values import items_of, leaves, rebuild

# n = rows of a batch, W = world_size, r = rank


class BatchShard:
    """One process's rows of batches that each process draws whole: a `Batches`.

    `rows_of_process` says which rows they are. If a batch has fewer rows than there are processes, the last ones get
    none. Every tensor of n rows and every list of n items is cut, whatever it is nested in. The rest stays as it is.

    Args:
        batches: the same on all processes.
        rank, world_size: the number of this process, and how many there are.

    Raises:
        ValueError: by `batch`, if the inputs do not begin with a tensor of rows, or another tensor has more or fewer.
    """

    def __init__(self, batches: Batches, rank: int, world_size: int) -> None:
        self.batches = batches
        self.rank, self.world_size = rank, world_size

    def batch(self, index: int) -> tuple[Any, Any]:
        """This process's rows of batch `index`."""
        pair = self.batches.batch(index)
        first = next(leaves(pair[0]), None)
        if not isinstance(first, Tensor) or first.dim() == 0:
            raise ValueError(f"{self._name()}: the inputs begin with {_described(first)}, expected a tensor of rows")
        rows = first.shape[0]
        begin, end = rows_of_process(rows, self.rank, self.world_size)
        return self._cut(pair[0], rows, begin, end), self._cut(pair[1], rows, begin, end)

    def _cut(self, value: Any, rows: int, begin: int, end: int) -> Any:
        if isinstance(value, Tensor):
            if value.dim() == 0:
                return value
            if value.shape[0] != rows:
                raise ValueError(
                    f"{self._name()}: given {_described(value)} beside one of {rows} rows, so it is not known how to "
                    "cut it; batches with an attribute world_size cut themselves"
                )
            return value[begin:end]
        if isinstance(value, list) and len(value) == rows:
            return value[begin:end]
        items = items_of(value)
        return value if items is None else rebuild(value, [self._cut(item, rows, begin, end) for item in items])

    def _name(self) -> str:
        return f"the shard of a batch of {type(self.batches).__name__}"


def share_of(batches: Batches, rank: int, world_size: int) -> Batches:
    """`batches` if they are cut already (a `Loader` with `rank=` and `world_size=`), otherwise a `BatchShard` of them.

    Raises:
        ValueError: they are made for another number of processes, or for another of them.
    """
    source = _source(batches)
    made_for = getattr(source, "world_size", 1)
    if made_for == 1:
        return batches if world_size == 1 else BatchShard(batches, rank, world_size)
    if (made_for, getattr(source, "rank", rank)) != (world_size, rank):
        raise ValueError(
            f"{type(source).__name__} is made for rank {getattr(source, 'rank', '?')} of {made_for} processes, "
            f"this is rank {rank} of {world_size}"
        )
    return batches


def _source(batches: Any) -> Any:
    """The object that draws the batches, which may be inside a `Prefetch`."""
    while not hasattr(batches, "world_size") and hasattr(batches, "batches"):
        batches = batches.batches
    return batches


def _described(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
