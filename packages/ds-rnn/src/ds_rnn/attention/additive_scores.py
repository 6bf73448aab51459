"""How well queries and keys match, by a small network (Bahdanau). Theory: docs/additive_scores.md."""

import torch
from ds_core import fast_form
from ds_core.activations.tanh import tanh, tanh_backward
from torch import Tensor

# B = sequences, T = queries, S = positions of the memory, A = attention_size

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def plain_additive_scores(query: Tensor, keys: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """query (B, T, A), keys (B, S, A), weight (A,) -> scores (B, T, S), u (B, T, S, A)."""
    (batch, queries, size), positions = query.shape, keys.shape[1]
    scores, us = [query.new_zeros(0)], [query.new_zeros(0, size)]
    for b in range(batch):
        for t in range(queries):
            for s in range(positions):
                u = tanh(query[b, t] + keys[b, s])  # u = tanh(q_t + k_s)                                   (1)
                scores.append((weight * u).sum()[None])  # e_ts = sum_a w_a u_a                             (2)
                us.append(u[None])
    return torch.cat(scores).view(batch, queries, positions), torch.cat(us).view(batch, queries, positions, size)


def plain_additive_scores_backward(dscores: Tensor, u: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dscores (B, T, S), u (B, T, S, A), weight (A,) -> dquery (B, T, A), dkeys (B, S, A), dweight (A,)."""
    batch, queries, positions, size = u.shape
    dquery, dkeys = u.new_zeros(batch, queries, size), u.new_zeros(batch, positions, size)
    dweight = torch.zeros_like(weight)
    for b in range(batch):
        for t in range(queries):
            for s in range(positions):
                da = dscores[b, t, s] * weight * (1 - u[b, t, s] * u[b, t, s])  # da = de w (1 - u^2)        (3)
                dquery[b, t] += da  # dq_t = sum_s da_ts                                                    (4)
                dkeys[b, s] += da  # dk_s = sum_t da_ts                                                     (5)
                dweight += dscores[b, t, s] * u[b, t, s]  # dw = sum_bts de u                               (6)
    return dquery, dkeys, dweight


@fast_form(plain_additive_scores)
def additive_scores(query: Tensor, keys: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """query (B, T, A), keys (B, S, A), weight (A,) -> scores (B, T, S), u (B, T, S, A)."""
    u = tanh(query[:, :, None] + keys[:, None])  # u = tanh(q_t + k_s)                                      (1)
    return torch.mv(u.flatten(0, 2), weight).view(u.shape[:3]), u  # e_ts = sum_a w_a u_a                   (2)


@fast_form(plain_additive_scores_backward)
def additive_scores_backward(
    dscores: Tensor, u: Tensor, weight: Tensor, needs: tuple[bool, bool, bool] = (True, True, True)
) -> Gradients:
    """dscores (B, T, S), u (B, T, S, A), weight (A,) -> dquery (B, T, A), dkeys (B, S, A), dweight (A,)."""
    da = tanh_backward(dscores[..., None] * weight, u)  # da = de w (1 - u^2)                               (3)
    dquery = da.sum(2) if needs[0] else None  # dq_t = sum_s da_ts                                          (4)
    dkeys = da.sum(1) if needs[1] else None  # dk_s = sum_t da_ts                                           (5)
    dweight = torch.mv(u.flatten(0, 2).t(), dscores.flatten()) if needs[2] else None  # dw = sum_bts de u   (6)
    return dquery, dkeys, dweight
