"""Scaled dot-product attention one query at a time, for reading. Theory: docs/plain_attention.md."""

import itertools
import math
from collections.abc import Iterator

import torch
from ds_core.speed.precision import wide_dtype, without_autocast
from torch import Tensor

from ds_transformers.attentions.arguments import added_mask, check_attention

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a query and a key, V = width of a value,
# b = example, h = head, i = query, S = keys that query i sees, from the first on


@without_autocast
def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The results of `attention`, from its arguments: example by example, head by head, query by query.

    Slow by nature: a few operations for every query, in Python. It looks at numbers, so it compiles into no graph.

    Returns:
        O (B, H, Tq, V) and P, before dropout, (B, H, Tq, Tk).

    Raises:
        ShapeError: the shapes do not fit, or `visible` is neither boolean nor floating.
    """
    check_attention(query, key, value, visible, dropout_mask)
    values = value.to(wide_dtype(value))
    outputs, probabilities = [], []
    for (b, h, i), seen, scores in rows_of_scores(query, key, visible, causal, scale):  # (S,)                 (1)
        p = softmax_of_row(scores)
        dropped = p if dropout_mask is None else dropout_mask[b, h, i, :seen] * p
        outputs.append(values[b, h, :seen].t() @ dropped)  # o_c = sum_j r_j p_j V_jc, (V,)                    (3)
        probabilities.append(torch.cat([p, p.new_zeros(key.shape[2] - seen)]))
    return stacked(outputs, value.shape[3], query), stacked(probabilities, key.shape[2], query)


@without_autocast
def plain_attention_backward(
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    probabilities: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
    dprobabilities: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dout (B, H, Tq, V), inputs and results of `plain_attention` -> dquery, dkey, dvalue, each shaped as its tensor.

    `dprobabilities` (B, H, Tq, Tk) is the gradient of the second result, None if that is zero. `output` and `visible`
    are here because every implementation takes them. The equations need neither: a hidden key has probability 0.
    """
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    queries, keys, values, douts = (x.to(wide_dtype(x)) for x in (query, key, value, dout))
    dquery, dkey, dvalue = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (queries, keys, values))
    for b, h, i in itertools.product(*map(range, query.shape[:3])):
        seen = keys_seen(i, query.shape[2], key.shape[2], causal)
        q, k, v = queries[b, h, i], keys[b, h, :seen], values[b, h, :seen]  # (D,), (S, D), (S, V)
        do, p = douts[b, h, i], probabilities[b, h, i, :seen].to(q.dtype)  # (V,), (S,)
        r = torch.ones_like(p) if dropout_mask is None else dropout_mask[b, h, i, :seen].to(q.dtype)
        dvalue[b, h, :seen] += (r * p).unsqueeze(1) * do  # dV_jc = sum over the queries of r_j p_j do_c       (4)
        dp = r * (v @ do)  # dp_j = r_j sum_c V_jc do_c                                                        (5)
        if dprobabilities is not None:
            dp += dprobabilities[b, h, i, :seen]
        ds = p * (dp - (p * dp).sum())  # ds_j = p_j (dp_j - sum_k p_k dp_k)                                   (6)
        dquery[b, h, i] = scale * (k.t() @ ds)  # dq_d = scale sum_j ds_j K_jd                                 (7)
        dkey[b, h, :seen] += scale * ds.unsqueeze(1) * q  # dK_jd = sum over the queries of scale ds_j q_d     (8)
    return dquery.to(query.dtype), dkey.to(key.dtype), dvalue.to(value.dtype)


def rows_of_scores(
    query: Tensor, key: Tensor, visible: Tensor | None, causal: bool, scale: float | None
) -> Iterator[tuple[tuple[int, int, int], int, Tensor]]:
    """Example, head and index of each query, how many keys it sees, and its scores (S,)."""
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    queries, keys = query.to(wide_dtype(query)), key.to(wide_dtype(key))
    shape = (*query.shape[:3], key.shape[2])
    masks = None if visible is None else visible.expand(shape)
    for b, h, i in itertools.product(*map(range, shape[:3])):
        seen = keys_seen(i, shape[2], shape[3], causal)
        scores = scale * (keys[b, h, :seen] @ queries[b, h, i])  # s_j = scale sum_d q_d K_jd + M_j            (1)
        yield (b, h, i), seen, scores if masks is None else masked(scores, masks[b, h, i, :seen])


def keys_seen(i: int, queries: int, keys: int, causal: bool) -> int:
    """How many keys, from the first on, query i sees; the last query is aligned with the last key."""
    return max(0, i + keys - queries + 1) if causal else keys


def masked(scores: Tensor, visible: Tensor) -> Tensor:
    """scores (S,), visible (S,) as `attention` takes it -> scores (S,)."""
    if visible.dtype == torch.bool:
        return scores.masked_fill(visible.logical_not(), -math.inf)
    return scores + added_mask(visible, scores.dtype)


def softmax_of_row(scores: Tensor) -> Tensor:
    """scores (S,) -> p (S,), which sum to 1, or are all 0 if every score is -inf or there is none."""
    if (scores == -math.inf).all():
        return torch.zeros_like(scores)
    powers = torch.exp(scores - scores.detach().amax())  # the largest score cancels, so it needs no gradient
    return powers / powers.sum()  # p_j = exp(s_j - m) / sum_k exp(s_k - m)                                    (2)


def stacked(rows: list[Tensor], width: int, query: Tensor) -> Tensor:
    """The rows (W,), one for each query, as one tensor (B, H, Tq, W) in the dtype of the queries."""
    shape = (*query.shape[:3], width)
    return torch.stack(rows).view(shape).to(query.dtype) if rows else query.new_zeros(shape)
