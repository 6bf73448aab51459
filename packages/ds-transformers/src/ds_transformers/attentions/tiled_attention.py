"""Attention in blocks of queries, so that no Tq by Tk matrix is ever whole. Theory: docs/tiled_attention.md."""

import math

import torch
from ds_core import fast_form
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.precision import wide_dtype, without_autocast
from torch import Tensor

from ds_transformers.attentions.arguments import check_attention
from ds_transformers.attentions.attention import (
    add_visible_,
    base2_scores,
    causal_mask,
    centred_gradients,
    may_have_empty_rows,
    powers_of_2,
    row_products,
)
from ds_transformers.attentions.plain_attention import rows_of_scores, stacked
from ds_transformers.attentions.tiles import head_tiles, row_tiles, rows_of_a_tile, score_buffer, view_of

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a query and a key, V = width of a value,
# n = heads of a tile, R = queries of a tile, S = keys that the tile sees, from the first on

LONG = 1024  # beyond so many keys a wider product is cheaper than one that begins from a column of numbers


@without_autocast
def plain_tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The results of `tiled_attention` for tiles of one query; they do not depend on `rows`."""
    check_attention(query, key, value, visible, dropout_mask)
    values = value.to(wide_dtype(value))
    outputs, logs = [], []
    for (b, h, i), seen, s in rows_of_scores(query, key, visible, causal, scale):
        if (s == -math.inf).all():  # also if there is no key
            largest, e, total = s.new_tensor(torch.finfo(s.dtype).min), torch.zeros_like(s), s.new_tensor(0.5)
        else:
            m = s.detach().amax()
            e = torch.exp(s - m)
            largest, total = m * LOG2_E, e.sum()
        dropped = e if dropout_mask is None else dropout_mask[b, h, i, :seen] * e
        # o_c = sum_j r_j e_j V_jc / sum_j e_j with e_j = exp(s_j - m)                                       (1)
        outputs.append(values[b, h, :seen].t() @ dropped / total)
        logs.append(torch.stack([largest, torch.log(total) * LOG2_E]))  # L = m log2(e) + log2 sum_j e_j       (2)
    return stacked(outputs, value.shape[3], query), stacked(logs, 2, query.to(wide_dtype(query)))


@without_autocast
def plain_tiled_attention_backward(
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logs: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dout (B, H, Tq, V), inputs and results of `plain_tiled_attention` -> dquery, dkey, dvalue."""
    factor = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    queries, keys, values, douts, outputs = (x.to(logs.dtype) for x in (query, key, value, dout, output))
    dquery, dkey, dvalue = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (queries, keys, values))
    for (b, h, i), seen, s in rows_of_scores(query, key, visible, causal, scale):
        q, k, v, do = queries[b, h, i], keys[b, h, :seen], values[b, h, :seen], douts[b, h, i]
        largest, log = logs[b, h, i]
        p = torch.exp2(s * LOG2_E - largest - log)  # p_j = exp(s_j) / sum_k exp(s_k) = 2^(s_j log2(e) - L)    (3)
        delta = (do * outputs[b, h, i]).sum()  # delta = sum_c do_c o_c                                        (4)
        r = torch.ones_like(p) if dropout_mask is None else dropout_mask[b, h, i, :seen].to(p.dtype)
        dvalue[b, h, :seen] += (r * p).unsqueeze(1) * do
        ds = factor * p * (r * (v @ do) - delta)
        dquery[b, h, i] = k.t() @ ds
        dkey[b, h, :seen] += ds.unsqueeze(1) * q
    return dquery.to(query.dtype), dkey.to(key.dtype), dvalue.to(value.dtype)


# The fast pair takes many queries of several heads together. All tiles write their scores to the same memory, which
# stays in cache, and subtractions are folded into products, (5).


@fast_form(plain_tiled_attention)
@without_autocast
def tiled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The output of `attention`, with its arguments, computed `rows` queries at a time (64 or, beyond 512, 128).

    Returns:
        O (B, H, Tq, V) and two numbers for every row of scores, (B, H, Tq, 2), from which `tiled_attention_backward`
        computes the probabilities again: the largest, in base 2, and log2 of the sum of powers relative to it.
    """
    check_attention(query, key, value, visible, dropout_mask)
    rows = rows_of_a_tile(query, rows)
    may_be_empty = may_have_empty_rows(query, key, visible)
    diagonal = causal_mask(rows, rows, query) if causal else None
    output = query.new_empty(*query.shape[:3], value.shape[3])
    logs = query.new_empty(*query.shape[:3], 2, dtype=wide_dtype(query))
    tiles = head_tiles(query, key.shape[2], rows)
    buffer = score_buffer(logs, tiles, rows, key.shape[2])
    for heads in tiles:
        q, k, v = query[heads].flatten(0, 1), key[heads].flatten(0, 1), value[heads].flatten(0, 1)  # (n, T, .)
        for start, end, seen in row_tiles(query.shape[2], key.shape[2], causal, rows):
            tile = (*heads, slice(start, end), slice(0, seen))
            out = view_of(buffer, q.shape[0], end - start, seen)
            scores = base2_scores(q[:, start:end], k[:, :seen], scale, out=out)  # (n, R, S)
            powers, total, largest = powers_of_2(mask_scores_(scores, visible, diagonal, tile), may_be_empty)
            dropped = powers if dropout_mask is None else powers * dropout_mask[tile].flatten(0, 1)
            # O_ic = sum_j r_ij e_ij V_jc / sum_j e_ij with e_ij = exp(S_ij - m_i)                              (1)
            found = torch.bmm(dropped.to(v.dtype), v[:, :seen]) / total
            output[tile[:3]] = found.view_as(output[tile[:3]])
            row = torch.cat([largest, torch.log(total).mul_(LOG2_E)], 2)  # L_i = m_i log2(e) + log2 sum_j e_ij (2)
            logs[tile[:3]] = row.view_as(logs[tile[:3]])
    return output, logs


@fast_form(plain_tiled_attention_backward)
@without_autocast
def tiled_attention_backward(
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    logs: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
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
    buffer, dbuffer = (score_buffer(logs, tiles, rows, key.shape[2]) for _ in range(2))
    for heads in tiles:
        wide = None  # what the last heads had is freed before these have theirs
        q, k, v = query[heads].flatten(0, 1), key[heads].flatten(0, 1), value[heads].flatten(0, 1)  # (n, T, .)
        do, log, delta = dout[heads].flatten(0, 1), logs[heads].flatten(0, 1), deltas[heads].flatten(0, 1)
        dq, dk, dv = dquery[heads].view_as(q), dkey[heads].view_as(k), dvalue[heads].view_as(v)
        if folds_subtraction(key, visible, dropout_mask):
            wide = append_column(k, log.new_ones(())), append_column(v, log.new_ones(()))
        for start, end, seen in row_tiles(query.shape[2], key.shape[2], causal, rows):
            tile = (*heads, slice(start, end), slice(0, seen))
            out, dscores_out = (view_of(each, q.shape[0], end - start, seen) for each in (buffer, dbuffer))
            r = None if dropout_mask is None else dropout_mask[tile]
            if wide is None:
                p = probabilities(q[:, start:end], k[:, :seen], log[:, start:end], scale, visible, diagonal, tile, out)
                dscores = centred_gradients(do[:, start:end], v[:, :seen], delta[:, start:end], r, factor, dscores_out)
            else:
                # sum_d Q_id K_jd - L_i = (Q_i, -L_i) (K_j, 1), likewise dP_ij - delta_i, with their factors    (5)
                left = append_column(q[:, start:end], -log[:, start:end].sum(2, keepdim=True), factor * LOG2_E)
                scores = torch.bmm(left, wide[0][:, :seen].transpose(1, 2), out=out)
                p = mask_scores_(scores, visible, diagonal, tile).exp2_()
                left = append_column(do[:, start:end], delta[:, start:end] * -factor, factor)
                dscores = torch.bmm(left, wide[1][:, :seen].transpose(1, 2), out=dscores_out)
            dropped = p if r is None else p * r.flatten(0, 1)
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
    visible: Tensor | None,
    diagonal: Tensor | None,
    tile: tuple[slice, ...],
    out: Tensor | None,
) -> Tensor:
    """q (n, R, D), k (n, S, D), log (n, R, 2) -> P of the tile, (n, R, S), written to `out` if that is a tensor."""
    if visible is None or visible.dtype == torch.bool:
        scores = mask_scores_(base2_scores(q, k, scale, -log.sum(2, keepdim=True), out), visible, diagonal, tile)
    else:
        # One after the other: beside the most negative number, which `visible` may hold, the sum would lose the
        # logarithm.
        scores = mask_scores_(base2_scores(q, k, scale, out=out), visible, diagonal, tile)
        scores.sub_(log[:, :, :1]).sub_(log[:, :, 1:])
    return scores.exp2_()  # P_ij = exp(S_ij) / sum_k exp(S_ik)                                                 (3)


def folds_subtraction(key: Tensor, visible: Tensor | None, dropout_mask: Tensor | None) -> bool:
    """Whether backward subtracts by a column more in the product, (5), which pays for long rows on a CPU.

    On a GPU the odd width costs more than it spares, and a compiler fuses the subtraction; it is asked first, because
    it would compile once more for a length beyond the limit. A floating `visible` and dropout come between the product
    and what is subtracted.
    """
    if torch.compiler.is_compiling() or key.device.type != "cpu":
        return False
    return dropout_mask is None and (visible is None or visible.dtype == torch.bool) and key.shape[2] > LONG


def append_column(x: Tensor, column: Tensor, factor: float = 1.0) -> Tensor:
    """x (n, T, D) times a factor, and beside it a column, broadcast to (n, T, 1), in its dtype: (n, T, D + 1)."""
    result = column.new_empty(*x.shape[:2], x.shape[2] + 1)
    torch.mul(x.to(column.dtype), factor, out=result[:, :, :-1])
    result[:, :, -1:] = column
    return result


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a b to `total`, (n, ., .) each; in one pass where `total` need not be wider than the factors."""
    if total.dtype == a.dtype:
        total.baddbmm_(a, b)
    else:
        total.add_(torch.bmm(a, b))


def mask_scores_(scores: Tensor, visible: Tensor | None, diagonal: Tensor | None, tile: tuple[slice, ...]) -> Tensor:
    """Mask the base-2 scores (n, R, S) of a tile in place; only its last R keys can lie after one of its queries.

    `diagonal` is the causal mask of a square tile with the most rows.
    """
    _, rows, seen = scores.shape
    if diagonal is not None and rows > 1:
        near = min(rows, seen)
        scores[:, :, seen - near :].add_(diagonal[:rows, rows - near : rows])
    if visible is not None:
        own = tile[4 - visible.dim() :]  # a dimension of size 1 serves all tiles
        index = tuple(part if size > 1 else slice(None) for part, size in zip(own, visible.shape, strict=True))
        heads = [part.stop - part.start for part in tile[:2]]
        add_visible_(scores.view(*heads, rows, seen), visible[index])
    return scores
