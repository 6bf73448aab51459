"""Scaled dot-product attention one query at a time, for reading. Theory: docs/plain_attention.md."""

import itertools
import math

import torch
from ds_core.speed.precision import without_autocast
from torch import Tensor

from ds_transformers.attentions.attention import check_attention, wide_dtype

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a query and a key, V = width of a value,
# b = example, h = head, i = query, S = keys that query i sees, from the first on


@without_autocast
def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    keep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The results of `attention`, from its arguments: example by example, head by head, query by query.

    Slow by nature: a few operations for every query, in Python. It looks at numbers, so that it compiles into no graph.

    Returns:
        O (B, H, Tq, V) and P, before dropout, (B, H, Tq, Tk).

    Raises:
        ShapeError: where the shapes do not fit, or a mask is neither boolean nor floating.
    """
    check_attention(query, key, value, mask, keep)
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    shape = (*query.shape[:3], key.shape[2])
    queries, keys, values = (x.to(wide_dtype(x)) for x in (query, key, value))
    masks = None if mask is None else mask.expand(shape)
    outputs, probabilities = [], []
    for b, h, i in itertools.product(*map(range, shape[:3])):
        seen = keys_seen(i, shape[2], shape[3], causal)
        q, k, v = queries[b, h, i], keys[b, h, :seen], values[b, h, :seen]  # (D,), (S, D), (S, V)
        scores = scale * (k @ q)  # s_j = scale sum_d q_d K_jd + M_j, (S,)                                     (1)
        if masks is not None:
            scores = masked(scores, masks[b, h, i, :seen])
        p = softmax_of_row(scores)
        dropped = p if keep is None else keep[b, h, i, :seen] * p
        outputs.append(v.t() @ dropped)  # o_c = sum_j keep_j p_j V_jc, (V,)                                   (3)
        probabilities.append(torch.cat([p, p.new_zeros(shape[3] - seen)]))
    output = stacked(outputs, (*shape[:3], value.shape[3]), queries)
    return output.to(query.dtype), stacked(probabilities, shape, queries).to(query.dtype)


@without_autocast
def plain_attention_backward(
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    probabilities: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    keep: Tensor | None = None,
    dprobabilities: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dout (B, H, Tq, V), inputs and results of `plain_attention` -> dquery, dkey, dvalue, each shaped as its tensor.

    `dprobabilities` (B, H, Tq, Tk) is the gradient of the second result, None where that is zero. `output` and `mask`
    are here because every implementation takes them: nothing is spared by the one, and what the other hides has probability 0.
    """
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    queries, keys, values, douts = (x.to(wide_dtype(x)) for x in (query, key, value, dout))
    dquery, dkey, dvalue = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (queries, keys, values))
    for b, h, i in itertools.product(*map(range, query.shape[:3])):
        seen = keys_seen(i, query.shape[2], key.shape[2], causal)
        q, k, v = queries[b, h, i], keys[b, h, :seen], values[b, h, :seen]  # (D,), (S, D), (S, V)
        do, p = douts[b, h, i], probabilities[b, h, i, :seen].to(q.dtype)  # (V,), (S,)
        kept = torch.ones_like(p) if keep is None else keep[b, h, i, :seen].to(q.dtype)
        dvalue[b, h, :seen] += (kept * p).unsqueeze(1) * do  # dV_jc = sum over the queries of keep_j p_j do_c (4)
        dp = kept * (v @ do)  # dp_j = keep_j sum_c V_jc do_c                                                  (5)
        if dprobabilities is not None:
            dp += dprobabilities[b, h, i, :seen]
        ds = p * (dp - (p * dp).sum())  # ds_j = p_j (dp_j - sum_k p_k dp_k)                                   (6)
        dquery[b, h, i] = scale * (k.t() @ ds)  # dq_d = scale sum_j ds_j K_jd                                 (7)
        dkey[b, h, :seen] += scale * ds.unsqueeze(1) * q  # dK_jd = sum over the queries of scale ds_j q_d     (8)
    return dquery.to(query.dtype), dkey.to(key.dtype), dvalue.to(value.dtype)


def keys_seen(i: int, queries: int, keys: int, causal: bool) -> int:
    """How many keys, from the first on, query i sees; the last query is aligned with the last key."""
    return max(0, i + keys - queries + 1) if causal else keys


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    """scores (S,), mask (S,) as `attention` takes it -> scores (S,)."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(mask.logical_not(), -math.inf)
    return scores + mask.to(scores.dtype)


def softmax_of_row(scores: Tensor) -> Tensor:
    """scores (S,) -> p (S,), which sum to 1, or are all 0 where every score is -inf or there is none."""
    if (scores == -math.inf).all():
        return torch.zeros_like(scores)
    powers = torch.exp(scores - scores.detach().amax())  # the largest score cancels, so it needs no gradient
    return powers / powers.sum()  # p_j = exp(s_j - m) / sum_k exp(s_k - m)                                    (2)


def stacked(rows: list[Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The rows, one for each query, as one tensor; zeros where there is no query."""
    return torch.stack(rows).view(shape) if rows else like.new_zeros(shape)
