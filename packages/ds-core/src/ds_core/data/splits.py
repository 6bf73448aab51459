"""Parts of a data set: for training, validation and test, or fold by fold."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ds_core.data.generators import keyed_generator
from ds_core.data.tensor_dataset import TensorDataset

# C = classes, P = parts


def split(
    data: Any,
    shares: Sequence[float] | Sequence[int] = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
    stratify: Any = None,
) -> tuple[Any, ...]:
    """Divide rows at random, each into exactly one part.

    Args:
        data: a `TensorDataset`, a tensor, a tuple of tensors, or a data set of single samples.
        shares: of each part, either fractions that sum to 1 or numbers of rows that sum to all.
        seed: the same one gives the same parts.
        stratify: (N,) labels; every class is then divided in the same proportions, rounded up or down.

    Returns:
        The parts, each of the kind of `data`; of single samples a `torch.utils.data.Subset`.

    Raises:
        ValueError: shares that do not fit, an empty part, or a class with fewer rows than there are parts.
    """
    parts = split_indices(_length(data), shares, seed=seed, stratify=stratify)
    return tuple(_select(data, part) for part in parts)


def k_folds(data: Any, folds: int = 5, *, seed: int = 0, stratify: Any = None) -> Iterator[tuple[Any, Any]]:
    """(training, validation) for each fold: every row is in the validation part of exactly one.

    Args, errors: as those of `split`, with `folds` equal shares, at least 2.
    """
    count = _length(data)
    if not 2 <= folds <= count:
        raise ValueError(f"k_folds: given folds={folds} of {count} rows, expected 2 to {count}")
    parts = split_indices(count, [1 / folds] * folds, seed=seed, stratify=stratify)
    for number, validation in enumerate(parts):
        training = torch.cat([part for other, part in enumerate(parts) if other != number])
        yield _select(data, training), _select(data, validation)


def split_indices(
    count: int,
    shares: Sequence[float] | Sequence[int] = (0.8, 0.1, 0.1),
    *,
    seed: int = 0,
    stratify: Any = None,
) -> tuple[Tensor, ...]:
    """The rows' numbers in each part, (n,) int64 in random order, for `split`."""
    sizes = _sizes(count, shares)
    order = torch.randperm(count, generator=keyed_generator(seed))
    if stratify is None:
        ends = list(itertools.accumulate(sizes))
        return tuple(order[end - size : end] for size, end in zip(sizes, ends, strict=True))
    codes = _codes(stratify, count, len(sizes))[order]
    part_of = torch.empty(count, dtype=torch.int64)
    for code, numbers in enumerate(_class_sizes(codes.bincount().tolist(), sizes)):
        part_of[codes == code] = torch.from_numpy(np.repeat(np.arange(len(sizes)), numbers))
    return tuple(order[part_of == part] for part in range(len(sizes)))


def _length(data: Any) -> int:
    if isinstance(data, tuple):
        data = TensorDataset(*data)
    return len(data)


def _select(data: Any, index: Tensor) -> Any:
    if isinstance(data, Tensor):
        return data[index]
    if isinstance(data, tuple):
        return TensorDataset(*data)[index]
    if isinstance(data, TensorDataset):
        return TensorDataset(*data[index])
    return Subset(data, index.tolist())


def _sizes(count: int, shares: Sequence[float] | Sequence[int]) -> list[int]:
    """Rows of each part; what fractions leave over goes to the largest remainders."""
    if all(isinstance(share, int) for share in shares):
        sizes = [int(share) for share in shares]
        if sum(sizes) != count:
            raise ValueError(f"split: given numbers {tuple(shares)} with sum {sum(sizes)}, expected {count}, all rows")
    else:
        if not math.isclose(sum(shares), 1, abs_tol=1e-6) or min(shares) < 0:
            raise ValueError(f"split: given shares {tuple(shares)}, expected fractions with sum 1 or whole numbers")
        exact = [share * count for share in shares]
        sizes = [math.floor(size) for size in exact]
        by_remainder = sorted(range(len(sizes)), key=lambda part: sizes[part] - exact[part])
        for part in by_remainder[: count - sum(sizes)]:
            sizes[part] += 1
    if min(sizes, default=0) < 1:
        raise ValueError(f"split: {tuple(shares)} of {count} rows are parts of {sizes}, expected at least 1 in each")
    return sizes


def _codes(labels: Any, count: int, parts: int) -> Tensor:
    """Labels as numbers 0 to C - 1."""
    values = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if values.shape != (count,):
        raise ValueError(f"split: given labels of shape {values.shape}, expected ({count},), one for each row")
    classes, codes, members = np.unique(values, return_inverse=True, return_counts=True)
    rarest = int(members.argmin())
    if members[rarest] < parts:
        raise ValueError(
            f"split: class {classes[rarest].item()!r} has {members[rarest]} row(s), expected at least {parts}, "
            "one for each part"
        )
    return torch.from_numpy(codes.astype(np.int64))


def _class_sizes(members: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Rows of each class in each part (C, P): n_c m_p / n rounded up or down, the sums being n_c and m_p.

    Such a rounding always exists. What rounding down leaves over of a class goes to its largest remainders; where such
    a part is full, a class that has been there before makes room if it can go elsewhere, as in Kuhn's method for
    matchings ("The Hungarian method for the assignment problem", 1955).
    """
    total, parts = sum(sizes), range(len(sizes))
    counts = [[n * m // total for m in sizes] for n in members]
    remainders = [[n * m % total for m in sizes] for n in members]
    room = [sizes[part] - sum(row[part] for row in counts) for part in parts]
    extra: list[set[int]] = [set() for _ in members]  # the parts where a class is rounded up

    def round_up(code: int, tried: set[int]) -> bool:
        for part in sorted(parts, key=lambda part: -remainders[code][part]):
            if part in tried or part in extra[code] or remainders[code][part] == 0:
                continue
            tried.add(part)
            if room[part] > 0:
                room[part] -= 1
                extra[code].add(part)
                return True
            for other in range(len(members)):
                if part in extra[other] and round_up(other, tried):
                    extra[other].remove(part)
                    extra[code].add(part)
                    return True
        return False

    for code, row in enumerate(counts):
        for _ in range(members[code] - sum(row)):
            found = round_up(code, set())
            assert found, "a rounding exists"
    return [[n + (part in extra[code]) for part, n in enumerate(row)] for code, row in enumerate(counts)]
