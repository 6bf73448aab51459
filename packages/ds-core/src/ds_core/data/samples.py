"""Any data set that gives one sample at a time, as one that gives batches."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ds_core.data.tensor_dataset import TensorDataset
from ds_core.errors import ShapeError


@runtime_checkable
class Rows(Protocol):
    """What a `Loader` draws from: rows, many at a time."""

    def __len__(self) -> int: ...

    def rows(self, index: slice | Tensor) -> tuple[Any, ...]:
        """The rows of a slice, or those whose numbers are in a tensor (n,): inputs first, the target last."""
        ...


class Stacked:
    """The samples of a data set, stacked into batches.

    Args:
        dataset: anything with `__len__` and `__getitem__(number)`, a `torch.utils.data.Dataset` for one; its
            `__getitems__(numbers)` is used where it has one, as PyTorch's loader does.
        collate: what makes a batch of a list of samples, a tuple; by default `stack`.

    Raises:
        TypeError: a data set without length or samples, an iterable one for instance.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None = None) -> None:
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"Stacked: given {type(dataset).__name__}, expected a data set with __len__ and __getitem__, "
                "any sample of which can be asked for"
            )
        self.dataset = dataset
        self.collate = stack if collate is None else collate

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def rows(self, index: slice | Tensor) -> tuple[Any, ...]:
        """The samples asked for as one batch."""
        numbers = range(*index.indices(len(self))) if isinstance(index, slice) else index.tolist()
        many = getattr(self.dataset, "__getitems__", None)
        samples = [self.dataset[number] for number in numbers] if many is None else list(many(list(numbers)))
        batch = self.collate(samples)
        return tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)


def as_rows(dataset: Any) -> Rows:
    """What has `rows` as it is; a tensor, or a tuple of tensors, as a `TensorDataset`; samples `Stacked`.

    Raises:
        TypeError: none of these.
    """
    if isinstance(dataset, Rows):
        return dataset
    tensors = dataset if isinstance(dataset, tuple) else (dataset,)
    if tensors and all(isinstance(tensor, Tensor) for tensor in tensors):
        return TensorDataset(*tensors)
    return Stacked(dataset)


def stack(samples: Sequence[Any]) -> Any:
    """One batch of a list of samples: tensors, arrays and numbers along a new first dimension, tuples part by part.

    Whole numbers become int64, others the default dtype.

    Raises:
        ShapeError: samples of different shapes or lengths.
        TypeError: something that no tensor can hold.
    """
    first = samples[0]
    if isinstance(first, (tuple, list)):
        lengths = {len(sample) for sample in samples}
        if len(lengths) > 1:
            raise ShapeError(f"stack: given samples of {sorted(lengths)} parts, expected as many in each")
        return tuple(stack(part) for part in zip(*samples, strict=True))
    if isinstance(first, (Tensor, np.ndarray, np.generic)):
        tensors = [torch.as_tensor(sample) for sample in samples]
        shapes = {tuple(tensor.shape) for tensor in tensors}
        if len(shapes) > 1:
            raise ShapeError(f"stack: given samples of shapes {sorted(shapes)}, expected all of one shape")
        return torch.stack(tensors)
    if isinstance(first, (bool, int, float)):
        return torch.tensor(samples)
    raise TypeError(
        f"stack: given samples of {type(first).__name__}, expected tensors, arrays, numbers or tuples of them; "
        "Stacked(dataset, collate) takes a function for others"
    )
