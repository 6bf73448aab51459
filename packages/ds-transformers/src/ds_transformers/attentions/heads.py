"""Heads: columns of a projection side by side, and heads of keys that several heads of queries share.

Theory: docs/grouped_heads.md.
"""

from einops import rearrange, repeat
from torch import Tensor

# B = batch, T = time, H = heads, G = heads of keys and values, r = H / G, D = width of a head


def split_heads(x: Tensor, head_dim: int, batch_first: bool = True) -> Tensor:
    """x (B, T, H D), or (T, B, H D) without `batch_first` -> (B, H, T, D), contiguous."""
    layout = "b t" if batch_first else "t b"
    return rearrange(x, f"{layout} (h d) -> b h t d", d=head_dim).contiguous()


def merge_heads(x: Tensor, batch_first: bool = True) -> Tensor:
    """x (B, H, T, D) -> (B, T, H D), or (T, B, H D) without `batch_first`."""
    return rearrange(x, "b h t d -> b t (h d)" if batch_first else "b h t d -> t b (h d)")


def repeat_heads(x: Tensor, shared: int) -> Tensor:
    """x (B, G, T, D) -> y_(g r + s) = x_g for s < r, (B, G r, T, D); for r = 1 x itself."""
    return x if shared == 1 else repeat(x, "b g t d -> b (g r) t d", r=shared)


def repeat_heads_backward(dy: Tensor, shared: int) -> Tensor:
    """dy (B, G r, T, D) -> dx (B, G, T, D)."""
    # dx_g = sum_s dy_(g r + s)                                                                              (1)
    return dy if shared == 1 else rearrange(dy, "b (g r) t d -> b g r t d", r=shared).sum(2)
