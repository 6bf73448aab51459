"""Attention in blocks of queries, so that no Tq by Tk matrix is ever whole. Theory: docs/tiled_attention.md."""

import math

import torch
from ds_core import reuse
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.precision import without_autocast
from torch import Tensor

from ds_transformers.attentions.attention import (
    add_mask,
    base2_scores,
    causal_mask,
    centred_gradients,
    check_attention,
    may_have_empty_rows,
    powers_of_2,
    row_products,
    wide_dtype,
)

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a query and a key, V = width of a value,
# n = heads of a tile, R = queries of a tile, S = keys that the tile sees, from the first on

CACHED = 2**18  # as many scores as a core's cache holds, with what is computed from them
LONG = 1024  # beyond so many keys a wider product is cheaper than one that begins from a column of numbers


@without_autocast
def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    keep: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The output of `attention`, with its arguments, computed `rows` queries at a time (64 or, beyond 512, 128).

    Returns:
        O (B, H, Tq, V) and two numbers for every row of scores, (B, H, Tq, 2), from which `tiled_attention_backward`
        computes the probabilities again: the largest, in base 2, and log2 of the sum of powers relative to it.
    """
    check_attention(query, key, value, mask, keep)
    rows = rows_of_a_tile(query, rows)
    may_be_empty = may_have_empty_rows(query, key, mask)
    diagonal = causal_mask(rows, rows, query) if causal else None
    output = query.new_empty(*query.shape[:3], value.shape[3])
    logs = query.new_empty(*query.shape[:3], 2, dtype=wide_dtype(query))
    tiles = head_tiles(query, key.shape[2], rows)
    space = room(logs, tiles, rows, key.shape[2])
    for heads in tiles:
        q, k, v = query[heads].flatten(0, 1), key[heads].flatten(0, 1), value[heads].flatten(0, 1)  # (n, T, .)
        for start, end, seen in row_tiles(query.shape[2], key.shape[2], causal, rows):
            tile = (*heads, slice(start, end), slice(0, seen))
            place = beginning(space, q.shape[0], end - start, seen)
            scores = base2_scores(q[:, start:end], k[:, :seen], scale, out=place)  # (n, R, S)
            powers, total, largest = powers_of_2(hide(scores, mask, diagonal, tile), may_be_empty)
            dropped = powers if keep is None else powers * keep[tile].flatten(0, 1)
            # O_ic = sum_j keep_ij e_ij V_jc / sum_j e_ij with e_ij = exp(S_ij - m_i)                           (1)
            found = torch.bmm(dropped.to(v.dtype), v[:, :seen]) / total
            output[tile[:3]] = found.view_as(output[tile[:3]])
            row = torch.cat([largest, torch.log(total).mul_(LOG2_E)], 2)  # L_i = m_i log2(e) + log2 sum_j e_ij (2)
            logs[tile[:3]] = row.view_as(logs[tile[:3]])
    return output, logs


@without_autocast
def tiled_attention_backward(
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logs: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    keep: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dout (B, H, Tq, V), inputs and results of `tiled_attention` -> dquery, dkey, dvalue."""
    factor = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    deltas = row_products(dout, output)  # delta_i = sum_c dO_ic O_ic                                           (4)
    rows = rows_of_a_tile(query, rows)
    diagonal = causal_mask(rows, rows, query) if causal else None
    dquery = torch.empty_like(query, memory_format=torch.contiguous_format)
    dkey, dvalue = (torch.zeros(x.shape, dtype=logs.dtype, device=x.device) for x in (key, value))
    tiles = head_tiles(query, key.shape[2], rows)
    space, dspace = (room(logs, tiles, rows, key.shape[2]) for _ in range(2))
    for heads in tiles:
        wide = None  # what the last heads had is freed before these have theirs
        q, k, v = query[heads].flatten(0, 1), key[heads].flatten(0, 1), value[heads].flatten(0, 1)  # (n, T, .)
        do, log, delta = dout[heads].flatten(0, 1), logs[heads].flatten(0, 1), deltas[heads].flatten(0, 1)
        dq, dk, dv = dquery[heads].view_as(q), dkey[heads].view_as(k), dvalue[heads].view_as(v)
        if is_long(key, mask, keep):
            wide = with_column(k, log.new_ones(())), with_column(v, log.new_ones(()))
        for start, end, seen in row_tiles(query.shape[2], key.shape[2], causal, rows):
            tile = (*heads, slice(start, end), slice(0, seen))
            place, dplace = (beginning(each, q.shape[0], end - start, seen) for each in (space, dspace))
            kept = None if keep is None else keep[tile]
            if wide is None:
                p = probabilities(q[:, start:end], k[:, :seen], log[:, start:end], scale, mask, diagonal, tile, place)
                dscores = centred_gradients(do[:, start:end], v[:, :seen], delta[:, start:end], kept, factor, dplace)
            else:
                # sum_d Q_id K_jd - L_i = (Q_i, -L_i) (K_j, 1), likewise dP_ij - delta_i, with their factors    (5)
                left = with_column(q[:, start:end], -log[:, start:end].sum(2, keepdim=True), factor * LOG2_E)
                scores = torch.bmm(left, wide[0][:, :seen].transpose(1, 2), out=place)
                p = hide(scores, mask, diagonal, tile).exp2_()
                left = with_column(do[:, start:end], delta[:, start:end] * -factor, factor)
                dscores = torch.bmm(left, wide[1][:, :seen].transpose(1, 2), out=dplace)
            dropped = p if kept is None else p * kept.flatten(0, 1)
            add_product(dv[:, :seen], dropped.to(v.dtype).transpose(1, 2), do[:, start:end])
            dscores = dscores.mul_(p).to(q.dtype)
            dq[:, start:end] = torch.bmm(dscores, k[:, :seen])
            add_product(dk[:, :seen], dscores.transpose(1, 2), q[:, start:end])
    return dquery, dkey.to(key.dtype), dvalue.to(value.dtype)


def probabilities(
    q: Tensor,
    k: Tensor,
    log: Tensor,
    scale: float | None,
    mask: Tensor | None,
    diagonal: Tensor | None,
    tile: tuple[slice, ...],
    place: Tensor | None,
) -> Tensor:
    """q (n, R, D), k (n, S, D), log (n, R, 2) -> P of the tile, (n, R, S), written to `place` if there is one."""
    if mask is None or mask.dtype == torch.bool:
        scores = hide(base2_scores(q, k, scale, -log.sum(2, keepdim=True), place), mask, diagonal, tile)
    else:
        # One after the other: beside the most negative number, which a mask may hold, the sum would lose the logarithm.
        scores = hide(base2_scores(q, k, scale, out=place), mask, diagonal, tile)
        scores.sub_(log[:, :, :1]).sub_(log[:, :, 1:])
    return scores.exp2_()  # P_ij = exp(S_ij) / sum_k exp(S_ik)                                                 (3)


def is_long(key: Tensor, mask: Tensor | None, keep: Tensor | None) -> bool:
    """Whether products one wider pay. On a GPU the odd width costs more than it spares, and a compiler fuses better."""
    plain = keep is None and (mask is None or mask.dtype == torch.bool)
    return plain and key.shape[2] > LONG and key.device.type == "cpu" and not torch.compiler.is_compiling()


def with_column(x: Tensor, column: Tensor, factor: float = 1.0) -> Tensor:
    """x (n, T, D) times a factor, and beside it a column, broadcast to (n, T, 1), in its dtype: (n, T, D + 1)."""
    result = column.new_empty(*x.shape[:2], x.shape[2] + 1)
    torch.mul(x.to(column.dtype), factor, out=result[:, :, :-1])
    result[:, :, -1:] = column
    return result


def room(logs: Tensor, tiles: list[tuple[slice, slice]], rows: int, keys: int) -> Tensor:
    """Space for the scores of the largest tile."""
    example, head = tiles[0] if tiles else (slice(0, 0), slice(0, 0))  # the first, for only the last may be smaller
    return logs.new_empty((example.stop - example.start) * (head.stop - head.start) * rows * keys)


def beginning(space: Tensor, *shape: int) -> Tensor | None:
    """The first numbers of `space` in a shape, so that all tiles write to the same places, which stay in cache."""
    return reuse(space[: math.prod(shape)].view(shape))


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to `total`, (n, ., .) each; in one pass where `total` need not be wider than the factors."""
    if total.dtype == a.dtype:
        total.baddbmm_(a, b)
    else:
        total.add_(torch.bmm(a, b))


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


def hide(scores: Tensor, mask: Tensor | None, diagonal: Tensor | None, tile: tuple[slice, ...]) -> Tensor:
    """Mask the base-2 scores (n, R, S) of a tile in place; only its last R keys can lie after one of its queries.

    `diagonal` is the causal mask of a square tile with the most rows.
    """
    _, rows, seen = scores.shape
    if diagonal is not None and rows > 1:
        near = min(rows, seen)
        scores[:, :, seen - near :].add_(diagonal[:rows, rows - near : rows])
    if mask is not None:
        places = [
            place if size > 1 else slice(None) for place, size in zip(tile[4 - mask.dim() :], mask.shape, strict=True)
        ]
        heads = [place.stop - place.start for place in tile[:2]]
        add_mask(scores.view(*heads, rows, seen), mask[tuple(places)])
    return scores
