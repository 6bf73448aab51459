"""The masks that MultiheadAttention takes, as one that is added to the scores. Theory: docs/multihead_attention.md."""

import math

import torch
from ds_core import ShapeError
from einops import rearrange
from torch import Tensor

# B = batch, H = heads, Tq = queries, Tk = keys


def merge_masks(query: Tensor, key: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None) -> Tensor | None:
    """query (B, H, Tq, D), key (B, H, Tk, D), masks as the twin takes them -> their sum, (B or 1, H or 1, Tq or 1, Tk).

    Args:
        key_padding_mask: (B, Tk), boolean with True for keys to ignore, or floating and added.
        attn_mask: (Tq, Tk) or (B H, Tq, Tk), boolean with True for keys not to see, or floating and added.

    Raises:
        ShapeError: another shape, or neither boolean nor floating.
    """
    batch, heads, queries, _ = query.shape
    keys = key.shape[2]
    merged = None
    if attn_mask is not None:
        shapes = [(queries, keys), (batch * heads, queries, keys)]
        merged = _added("attn_mask", attn_mask, shapes, query.dtype)
        if attn_mask.dim() == 2:
            merged = merged.view(1, 1, queries, keys)
        else:
            merged = rearrange(merged, "(b h) q k -> b h q k", h=heads)
    if key_padding_mask is not None:
        padding = _added("key_padding_mask", key_padding_mask, [(batch, keys)], query.dtype).view(batch, 1, 1, keys)
        merged = padding if merged is None else merged + padding
    return merged


def nothing_is_nan(mask: Tensor) -> Tensor:
    """An equal mask whose rows that hide every key are NaN, so that their softmax is, as in PyTorch."""
    return mask if mask.shape[-1] == 0 else mask.masked_fill(mask.amax(-1, keepdim=True) == -math.inf, math.nan)


def seen_from_the_start(queries: int, keys: int, like: Tensor) -> Tensor:
    """(Tq, Tk) boolean, True where j <= i: the twin's `is_causal`, aligned with the first key, not the last."""
    return torch.ones(queries, keys, dtype=torch.bool, device=like.device).tril_()


def _added(name: str, mask: Tensor, shapes: list[tuple[int, ...]], dtype: torch.dtype) -> Tensor:
    expected = " or ".join(str(shape) for shape in shapes)
    if tuple(mask.shape) not in shapes:
        raise ShapeError(f"MultiheadAttention: given {name} {tuple(mask.shape)}, expected {expected}")
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)
    if not mask.is_floating_point():
        raise ShapeError(f"MultiheadAttention: given {name} of {mask.dtype}, expected torch.bool or a floating dtype")
    return mask
