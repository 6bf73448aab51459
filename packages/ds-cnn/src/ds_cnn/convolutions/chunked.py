"""A batch in chunks, so that what a technique builds on the way stays in the cache. Theory: docs/im2col.md."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ds_cnn.convolutions.geometry import Sizes

# Numbers built on the way at a time, by trial: two megabytes of float32 stay in the cache until they are multiplied,
# and smaller chunks make products of few rows and cost more calls.
CHUNK = 2**19


def runs_in_chunks(x: Tensor) -> bool:
    """Whether a batch is cut: on a CPU, unless autograd, the compiler or autocast looks on, in the dtype of its sums.

    Compiling is asked first: the compiler would otherwise compile again if a size crossed a limit.
    """
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
    )


def image_chunks(x: Tensor, numbers: int, limit: int | None = None) -> list[slice]:
    """Slices of the batch of x, for each of whose images so many numbers are built."""
    if not runs_in_chunks(x):
        return [slice(None)]
    images = images_at_once(len(x), numbers, CHUNK if limit is None else limit)
    return [slice(n, n + images) for n in range(0, len(x), max(1, images))]


def images_at_once(batch: int, numbers: int, limit: int) -> int:
    """How many images make up `limit` numbers, if one has `numbers`: at least 1, and chunks of one size if possible."""
    most = max(1, limit // max(1, numbers))
    return -(-batch // max(1, -(-batch // most)))


def chunks_of_output(batch: int, size: Sizes, numbers: int, limit: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Slices of the batch, and of the first axis of an output of that size, with `numbers` to build a position.

    As many whole images as fit into `limit`, by default `CHUNK`. If one does not fit, some of its rows at a time.
    """
    limit = CHUNK if limit is None else limit
    row = numbers * math.prod(size[1:])
    images = images_at_once(batch, row * size[0], limit)
    rows = size[0] if row * size[0] <= limit else max(1, limit // row)
    for n in range(0, batch, max(1, images)):
        for p in range(0, size[0], rows):
            yield slice(n, min(n + images, batch)), slice(p, min(p + rows, size[0]))
