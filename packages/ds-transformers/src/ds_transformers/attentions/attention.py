"""Scaled dot-product attention with the whole matrix of probabilities at once. Theory: docs/attention.md."""

import math

import torch
from ds_core import fast_form, reuse
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.precision import wide_dtype, without_autocast
from torch import Tensor

from ds_transformers.attentions.arguments import added_mask, check_attention
from ds_transformers.attentions.plain_attention import plain_attention, plain_attention_backward

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a query and a key, V = width of a value, N = B H


# The plain pair, which takes one query after the other, stands in plain_attention.py. Here each product is one for all
# heads, the exponentials are powers of 2, and (7) spares a pass over all probabilities.


@fast_form(plain_attention)
@without_autocast
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    visible: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """O = (R * P) V with P = softmax(scale Q K^T + M), R dropout's mask (Vaswani et al., 2017, equation 1).

    A query that may see no key has probabilities 0 and output 0, not NaN.

    Args:
        query, key, value: (B, H, Tq, D), (B, H, Tk, D), (B, H, Tk, V).
        visible: broadcast to (B, H, Tq, Tk). Boolean: True where the query may see the key; floating: M, which is
            added to the scores (as in torch.nn.functional.scaled_dot_product_attention). It gets no gradient.
        causal: query i sees the keys up to i + Tk - Tq: the last query is aligned with the last key, so that the
            keys may begin with those of earlier tokens.
        scale: what Q K^T is multiplied by; 1 / sqrt(D) by default.
        dropout_mask: (B, H, Tq, Tk), what dropout multiplies the probabilities by: 0, or 1 / (1 - p).

    Returns:
        O (B, H, Tq, V) and P, before dropout, (B, H, Tq, Tk).

    Raises:
        ShapeError: the shapes do not fit, or `visible` is neither boolean nor floating.
    """
    check_attention(query, key, value, visible, dropout_mask)
    q, k, v = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)  # (N, T, .)
    hidden = causal_mask(query.shape[2], key.shape[2], query) if causal and query.shape[2] > 1 else None
    scores = base2_scores(q, k, scale, hidden)  # (N, Tq, Tk)
    if visible is not None:
        add_visible_(scores.view(*query.shape[:3], key.shape[2]), visible)
    powers, total, _ = powers_of_2(scores, may_have_empty_rows(query, key, visible))
    p = torch.div(powers, total, out=reuse(powers)).to(query.dtype)  # P_ij = exp(S_ij) / sum_k exp(S_ik)      (2)
    dropped = p if dropout_mask is None else p * dropout_mask.flatten(0, 1)
    output = torch.bmm(dropped, v)  # O_ic = sum_j r_ij P_ij V_jc                                              (3)
    return output.view(*query.shape[:3], value.shape[3]), p.view(*query.shape[:3], key.shape[2])


@fast_form(plain_attention_backward)
@without_autocast
def attention_backward(
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
    """dout (B, H, Tq, V), inputs and results of `attention` -> dquery, dkey, dvalue, each shaped as its tensor.

    `dprobabilities` (B, H, Tq, Tk) is the gradient of the second result, None if that is zero. `visible` and
    `causal` are here because every implementation takes them. They have done their work in forward: what they hide has
    probability 0.
    """
    q, k, v, p = query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), probabilities.flatten(0, 1)
    do = dout.flatten(0, 1)
    dropped = p if dropout_mask is None else p * dropout_mask.flatten(0, 1)
    dv = torch.bmm(dropped.transpose(1, 2), do)  # dV_jc = sum_i r_ij P_ij dO_ic                               (4)
    delta = row_products(dout, output)  # delta_i = sum_j P_ij dP_ij = sum_c dO_ic O_ic                        (7)
    if dprobabilities is not None:
        delta.add_(row_products(dprobabilities, probabilities))
    scale = 1 / math.sqrt(query.shape[3]) if scale is None else scale
    dscores = centred_gradients(do, v, delta.flatten(0, 1), dropout_mask, scale)
    if dprobabilities is not None:
        dscores.add_(dprobabilities.flatten(0, 1), alpha=scale)
    dscores = dscores.mul_(p).to(q.dtype)  # dS_ij = P_ij (dP_ij - delta_i), with the scale of (8) and (9)     (6)
    dq = torch.bmm(dscores, k)  # dQ_id = scale sum_j dS_ij K_jd                                               (8)
    dk = torch.bmm(dscores.transpose(1, 2), q)  # dK_jd = scale sum_i dS_ij Q_id                               (9)
    return dq.view(query.shape), dk.view(key.shape), dv.view(value.shape)


def base2_scores(
    q: Tensor, k: Tensor, scale: float | None, added: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """log2(e) S with S_ij = scale sum_d Q_id K_jd (1), plus `added`: q (N, Tq, D), k (N, Tk, D) -> (N, Tq, Tk).

    `added` is in base 2 too, and broadcast; `out` is where the scores are written, if not into a new tensor.

    In base 2, because torch.exp2 takes a third of the time of torch.exp on CPU, and the factor costs nothing here.
    In float32 at least: the exponential of a score rounded to bfloat16 would be off by several per cent.
    """
    factor = LOG2_E * (1 / math.sqrt(q.shape[2]) if scale is None else scale)
    q, k = q.to(wide_dtype(q)), k.to(wide_dtype(k))
    if added is None:
        return torch.bmm(q * factor, k.transpose(1, 2), out=out)
    return torch.baddbmm(added, q, k.transpose(1, 2), alpha=factor, out=out)


def powers_of_2(scores: Tensor, may_have_empty_rows: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Base-2 scores z (..., Tk), overwritten -> 2^(z - m) (..., Tk), its sums and m, the largest of each row (..., 1).

    Subtracting m keeps the powers within 1 and cancels in every result, so it needs no gradient. A row that sees no
    key, all -inf, gets powers 0, the sum 1/2 and the smallest number as m; `may_have_empty_rows` says that there may be
    such rows.
    """
    smallest = torch.finfo(scores.dtype).min
    if scores.shape[-1] == 0:
        row = (*scores.shape[:-1], 1)
        return scores, scores.new_full(row, 0.5), scores.new_full(row, smallest)
    largest = scores.detach().amax(-1, keepdim=True)
    if may_have_empty_rows:
        largest.clamp_(min=smallest)
    shifted = scores.sub_(largest)
    powers = torch.exp2(shifted, out=reuse(shifted))
    total = powers.sum(-1, keepdim=True)
    # The largest power of a row is 1, so that this changes only the sum of a row without a visible key; a half, because
    # what autograd gives clamp for equal numbers is not the same in all versions of PyTorch.
    return powers, total.clamp(min=0.5) if may_have_empty_rows else total, largest


def causal_mask(queries: int, keys: int, like: Tensor) -> Tensor:
    """(Tq, Tk), to be added to scores: 0 where query i sees key j, that is j <= i + Tk - Tq, and -inf elsewhere."""
    wide = wide_dtype(like)
    hidden = torch.full((queries, keys), -math.inf, dtype=wide, device=like.device)
    return hidden.triu_(keys - queries + 1)


def may_have_empty_rows(query: Tensor, key: Tensor, visible: Tensor | None) -> bool:
    """Whether a query may see no key: by `visible`, or under a causal mask with more queries than keys."""
    return visible is not None or query.shape[2] > key.shape[2]


def add_visible_(scores: Tensor, visible: Tensor) -> None:
    """Hide in base-2 scores, in place, what is not visible, or add what `visible` holds if it is floating."""
    if visible.dtype == torch.bool:
        scores.masked_fill_(visible.logical_not(), -math.inf)
    else:
        scores.add_(added_mask(visible, scores.dtype), alpha=LOG2_E)


def centred_gradients(
    do: Tensor, v: Tensor, delta: Tensor, dropout_mask: Tensor | None, scale: float, out: Tensor | None = None
) -> Tensor:
    """do (N, Tq, V), v (N, Tk, V), delta (N, Tq, 1), dropout_mask (B, H, Tq, Tk) -> scale (dP - delta), (N, Tq, Tk)."""
    do, v = do.to(delta.dtype), v.to(delta.dtype)
    if dropout_mask is None:
        return torch.baddbmm(delta, do, v.transpose(1, 2), beta=-scale, alpha=scale, out=out)  # one pass, not three
    dp = torch.bmm(do, v.transpose(1, 2), out=out)
    dp.mul_(dropout_mask.flatten(0, 1))  # dP_ij = r_ij sum_c dO_ic V_jc                                       (5)
    return dp.sub_(delta).mul_(scale)


def row_products(first: Tensor, second: Tensor) -> Tensor:
    """sum_c first_ic second_ic: (..., T, V) twice -> (..., T, 1), in float32 at least."""
    return (first * second).sum(-1, keepdim=True, dtype=wide_dtype(first))
