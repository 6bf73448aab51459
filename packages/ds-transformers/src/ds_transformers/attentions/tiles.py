"""How tiled attention is cut: into some heads by some queries, and the memory that all tiles share.

Theory: docs/tiled_attention.md.
"""

import math

import torch
from ds_core import reuse
from torch import Tensor

CACHED = 2**18  # as many scores as a core's cache holds, with what is computed from them


def rows_of_a_tile(query: Tensor, rows: int | None) -> int:
    """Few rows waste little on the far side of the diagonal, many make larger products."""
    queries = query.shape[2]
    return max(1, min(rows or (64 if queries <= 512 else 128), queries))


def head_tiles(query: Tensor, keys: int, rows: int) -> list[tuple[slice, slice]]:
    """The batch and the heads in slices: some examples, or some heads of one example.

    As many for each thread as have scores that stay in cache, at least one: a product of one head, which the threads
    have to share, takes longer than as many products as there are threads.

    On other devices than CPU everything is one slice, for there few large operations are the fast ones; and while
    compiling, for the compiler cuts the work itself, and every tile would be code of its own.
    """
    batch, heads = query.shape[:2]
    together = batch * heads
    if query.device.type == "cpu" and not torch.compiler.is_compiling():
        together = torch.get_num_threads() * max(1, CACHED // max(1, rows * keys))
    if together >= heads:
        examples = together // max(1, heads)
        return [(part, slice(0, heads)) for part in slices(batch, examples)]
    return [(example, part) for example in slices(batch, 1) for part in slices(heads, together)]


def row_tiles(queries: int, keys: int, causal: bool, rows: int) -> list[tuple[int, int, int]]:
    """(first query, end, number of keys seen) of each tile; under a causal mask the keys end at the diagonal."""
    tiles = [(part.start, part.stop) for part in slices(queries, rows)]
    return [(first, end, max(0, end + keys - queries) if causal else keys) for first, end in tiles]


def slices(length: int, size: int) -> list[slice]:
    """0 ... length in slices of `size`, the last one shorter."""
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def score_buffer(logs: Tensor, tiles: list[tuple[slice, slice]], rows: int, keys: int) -> Tensor:
    """Memory for the scores of the largest tile."""
    example, head = tiles[0] if tiles else (slice(0, 0), slice(0, 0))  # the first, for only the last may be smaller
    return logs.new_empty((example.stop - example.start) * (head.stop - head.start) * rows * keys)


def view_of(buffer: Tensor, *shape: int) -> Tensor | None:
    """The first numbers of `buffer` in a shape, so that all tiles write to the same memory, which stays in cache."""
    return reuse(buffer[: math.prod(shape)].view(shape))
