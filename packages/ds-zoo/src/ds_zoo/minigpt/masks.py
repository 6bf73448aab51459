"""Padding in a batch of texts: who sees it, and where the others stand. Theory: docs/minigpt/model.md."""

import torch
from ds_core import ShapeError
from torch import Tensor

# B = batch, T = time, L = tokens in the cache


def padded_keys(attention_mask: Tensor, batch: int, length: int) -> Tensor:
    """transformers' attention_mask (B, L + T), 0 where a token is padding -> key_padding_mask, True there.

    Raises:
        ShapeError: it has another shape.
    """
    if tuple(attention_mask.shape) != (batch, length):
        raise ShapeError(
            f"MiniGPT: given attention_mask {tuple(attention_mask.shape)}, expected {(batch, length)}: one number for "
            "each token of the cache and of input_ids, 0 for padding"
        )
    return attention_mask == 0


def positions_in(attention_mask: Tensor) -> Tensor:
    """attention_mask (B, T) -> position_ids (B, T): each real token counts those before it; padding gets 0 at first."""
    return (torch.cumsum(attention_mask != 0, 1) - 1).clamp(min=0)  # p_t = max(0, m_1 + ... + m_t - 1)        (6)
