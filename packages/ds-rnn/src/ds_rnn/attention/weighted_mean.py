"""From scores to what is read: softmax over the memory, the mean with its weights. Theory: docs/weighted_mean.md."""

import torch
from ds_core import fast_form
from ds_core.activations.softmax import softmax, softmax_backward
from torch import Tensor

# B = sequences, T = queries, S = positions of the memory, M = numbers of a position


def plain_weighted_mean(scores: Tensor, memory: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor]:
    """scores (B, T, S), memory (B, S, M), padding (B, S), True where nothing is -> context (B, T, M), p (B, T, S)."""
    (batch, queries, positions), size = scores.shape, memory.shape[2]
    contexts, rows = [memory.new_zeros(0, size)], [scores.new_zeros(0, positions)]
    for b in range(batch):
        seen = [s for s in range(positions) if padding is None or not bool(padding[b, s])]
        for t in range(queries):
            p, context = [scores.new_zeros(()) for _ in range(positions)], memory.new_zeros(size)
            m = max([scores[b, t, s].detach() for s in seen], default=scores.new_zeros(()))
            exps = {s: torch.exp(scores[b, t, s] - m) for s in seen}
            for s in seen:
                p[s] = exps[s] / torch.stack([*exps.values()]).sum()  # p_s = exp(e_s) / sum_r exp(e_r)     (1)
                context = context + p[s] * memory[b, s]  # c = sum_s p_s m_s                                (2)
            contexts.append(context[None])
            rows.append(torch.stack(p)[None])
    return torch.cat(contexts).view(batch, queries, size), torch.cat(rows).view(batch, queries, positions)


def plain_weighted_mean_backward(dcontext: Tensor, p: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """dcontext (B, T, M), p (B, T, S), memory (B, S, M) -> dscores (B, T, S), dmemory (B, S, M)."""
    batch, queries, positions = p.shape
    dscores, dmemory = torch.zeros_like(p), torch.zeros_like(memory)
    for b in range(batch):
        for t in range(queries):
            dp = [(dcontext[b, t] * memory[b, s]).sum() for s in range(positions)]  # dp_s = dc . m_s       (3)
            mean = sum((p[b, t, s] * dp[s] for s in range(positions)), p.new_zeros(()))
            for s in range(positions):
                dscores[b, t, s] = p[b, t, s] * (dp[s] - mean)  # de_s = p_s (dp_s - sum_r p_r dp_r)         (4)
                dmemory[b, s] += p[b, t, s] * dcontext[b, t]  # dm_s = sum_t p_ts dc_t                      (5)
    return dscores, dmemory


# All sequences and queries at once. Padding gets a weight of exactly 0, so a sequence of nothing else reads zeros.
@fast_form(plain_weighted_mean)
def weighted_mean(scores: Tensor, memory: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor]:
    """scores (B, T, S), memory (B, S, M), padding (B, S), True where nothing is -> context (B, T, M), p (B, T, S)."""
    if padding is None:
        p = softmax(scores, 2)  # p_s = exp(e_s) / sum_r exp(e_r)                                            (1)
    else:
        hidden = padding[:, None]
        p = softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), 2).masked_fill(hidden, 0)
    return torch.bmm(p, memory), p  # c = sum_s p_s m_s                                                      (2)


@fast_form(plain_weighted_mean_backward)
def weighted_mean_backward(dcontext: Tensor, p: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """dcontext (B, T, M), p (B, T, S), memory (B, S, M) -> dscores (B, T, S), dmemory (B, S, M)."""
    dp = torch.bmm(dcontext, memory.transpose(1, 2))  # dp_s = dc . m_s                                     (3)
    dscores = softmax_backward(dp, p, 2)  # de_s = p_s (dp_s - sum_r p_r dp_r)                              (4)
    return dscores, torch.bmm(p.transpose(1, 2), dcontext)  # dm_s = sum_t p_ts dc_t                        (5)
