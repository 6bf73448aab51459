"""Multi-head attention of a sequence to itself: GPT's, BERT's and ViT's. Theory: docs/self_attention.md."""

from typing import Any

import torch
from ds_core import Linear, Module, ShapeError, accumulate, linear, linear_backward, parameter
from ds_core.engine.trace import describe
from ds_core.initializers import xavier_uniform_
from torch import Tensor

from ds_transformers.attentions.cache import KeyValueCache
from ds_transformers.attentions.heads import merge_heads, split_heads
from ds_transformers.attentions.implementations import (
    attend,
    attend_backward,
    check_arguments,
    draw_attention_dropout_mask,
)
from ds_transformers.attentions.masks import add_bias, check_masks, merge_masks

# B = batch, H = heads, G = heads of keys and values, T = time, D = width of a head, E = embed_dim = H D, P = E + 2 G D


class SelfAttention(Module):
    """y = out_proj(concat_h attention(Q_h, K_h, V_h)), where (Q, K, V) = x in_proj_weight^T + in_proj_bias.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2. The parameters have the names, shapes and
    initial values of torch.nn.MultiheadAttention's, so that weights load in both directions; here there is one
    input instead of three, batch first by default, and no weights to return.

    Args:
        embed_dim: E, the width of x and y.
        num_heads: H; E must be divisible by it.
        causal: whether a token sees only itself and those before it.
        bias: whether both projections have one.
        dropout: the probability that a probability of attention is dropped in training.
        num_kv_heads: G, heads of keys and values, each shared by H / G of the queries' (docs/grouped_heads.md); H by
            default. `in_proj_weight` is then (E + 2 G D, E).
        rotary: turns queries and keys by their positions, as `RotaryPositions`.
        alibi: adds to the scores what depends on the distance, as `AlibiPositions`.
        batch_first: whether x and y are (B, T, E), or (T, B, E).
        implementation: "vectorized" keeps the probabilities, B H T^2; "tiled" keeps O(T) and computes them again;
            "loops" is for reading.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: E not divisible by H, H not by G, an unknown implementation, a dropout outside 0 to 1, `alibi` for
            another number of heads.
        TypeError: `rotary` or `alibi` that are no such parts.
        ShapeError: from `forward`, where x or a mask does not fit.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        num_kv_heads: int | None = None,
        rotary: Any = None,
        alibi: Any = None,
        batch_first: bool = True,
        implementation: str = "vectorized",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_arguments("SelfAttention", embed_dim, num_heads, dropout, implementation, num_kv_heads)
        check_positions(rotary, alibi, num_heads)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = embed_dim // num_heads
        self.causal = causal
        self.dropout = dropout
        self.rotary = rotary
        self.alibi = alibi
        self.batch_first = batch_first
        self.implementation = implementation
        self._sizes = [embed_dim, *[self.num_kv_heads * self.head_dim] * 2]
        out_proj = Linear(embed_dim, embed_dim, bias, device, dtype, generator=generator)
        weight = torch.empty(sum(self._sizes), embed_dim, device=device, dtype=dtype)
        self.in_proj_weight = parameter(xavier_uniform_(weight, generator=generator))
        self.in_proj_bias: Tensor | None = None
        if bias:
            self.in_proj_bias = parameter(torch.zeros(sum(self._sizes), device=device, dtype=dtype))
            out_proj.bias = parameter(torch.zeros(embed_dim, device=device, dtype=dtype))
        self.out_proj = out_proj

    def forward(
        self,
        x: Tensor,
        cache: KeyValueCache | None = None,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """x (B, T, E) -> y (B, T, E); without `batch_first` (T, B, E), and (T, E) -> (T, E) where there is no batch.

        Args:
            cache: the tokens before x, which x is appended to; only under `no_record()`, and only where causal.
            key_padding_mask: (B, T), True where a token is padding, which no token sees, or floating and added. With a
                cache of L tokens it is (B, L + T), for those and for the new ones.
            attn_mask: (T, T) or (B H, T, T), True where a token may not see another, or floating and added.
            is_causal: promises that `attn_mask` is the causal mask, which then need not be read; with a cache, makes
                this call causal.

        Raises:
            ShapeError: inputs or masks that do not fit, a cache of another batch or model.
            ValueError: `is_causal` though the mask is another; a cache with `attn_mask`, not `causal`, or another's.
            RuntimeError: `is_causal` without an `attn_mask`; a cache while recording.
        """
        batched = x.dim() == 3
        self._check(x, cache, key_padding_mask, attn_mask, is_causal)
        x = x if batched else x.unsqueeze(0)
        batch_first = self.batch_first or not batched
        packed, projected = self.project(x)  # (B, T, P)
        query, key, value = (split_heads(p, self.head_dim, batch_first) for p in torch.split(packed, self._sizes, 2))
        offset = 0 if cache is None else cache.length
        # `is_causal` speaks of an attn_mask, but with a cache, where there is none
        promised = is_causal and cache is None
        check_masks(self, query, offset + key.shape[2], key_padding_mask, attn_mask, promised, batched)
        if self.rotary is not None:
            query, key = self.rotary.rotate(query, offset), self.rotary.rotate(key, offset)
        own = (query, key, value)
        if cache is not None:
            key, value = cache.append(key, value, owner=self)
        visible = merge_masks(query, key_padding_mask, None if is_causal else attn_mask)
        if self.alibi is not None:
            visible = add_bias(self.alibi.bias(query.shape[2], key.shape[2], query), visible)
        options = {
            "visible": visible,
            "causal": self.causal or is_causal,
            "dropout_mask": draw_attention_dropout_mask(query, key.shape[2], self.dropout if self.training else 0.0),
        }
        output, kept = attend(self.implementation, query, key, value, **options)
        merged = merge_heads(output, batch_first)
        # out_proj keeps `merged` as well: no second output is kept
        self.save(x, projected, own, merged, kept, options, (batched, batch_first, offset))
        y = self.out_proj.forward(merged)
        return y if batched else y.squeeze(0)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        dmerged = self.out_proj.backward(dy if dy is None or dy.dim() == 3 else dy.unsqueeze(0))
        x, projected, (query, key, value), merged, kept, options, (batched, batch_first, offset) = self.saved()
        if dmerged is None or not (input_gradient or any(own.requires_grad for own in self.parameters(recurse=False))):
            return None
        dout, output = (split_heads(t, self.head_dim, batch_first) for t in (dmerged, merged))
        dq, dk, dv = attend_backward(self.implementation, dout, query, key, value, output, kept, **options)
        if self.rotary is not None:
            dq, dk = self.rotary.rotate_backward(dq, offset), self.rotary.rotate_backward(dk, offset)
        dpacked = torch.cat([merge_heads(d, batch_first) for d in (dq, dk, dv)], 2)  # (B, T, P)
        dx = self.project_backward(dpacked, x, projected, input_gradient)
        return dx if batched or dx is None else dx.squeeze(0)

    def project(self, x: Tensor) -> tuple[Tensor, Any]:
        """x (B, T, E) -> queries, keys and values side by side (B, T, P), and what `project_backward` needs beside x.

        A subclass with another projection, as LoRA's, overrides both.
        """
        return linear(x, self.in_proj_weight, self.in_proj_bias), None  # (1)

    def project_backward(self, dpacked: Tensor, x: Tensor, projected: Any, input_gradient: bool) -> Tensor | None:
        """dpacked (B, T, P) -> dx (B, T, E); adds to the gradients of `in_proj_weight` and `in_proj_bias`."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        needs = (input_gradient, weight.requires_grad, bias is not None and bias.requires_grad)
        dx, dweight, dbias = linear_backward(dpacked, x, weight, needs)  # dx = [dQ, dK, dV] W         (3)
        accumulate(weight, dweight)
        accumulate(bias, dbias)
        return dx

    def _check(
        self,
        x: Tensor,
        cache: KeyValueCache | None,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> None:
        if x.dim() not in (2, 3) or x.shape[-1] != self.embed_dim:
            axes = "B, T" if self.batch_first else "T, B"
            raise ShapeError(
                f"{describe(self)}: given input of shape {tuple(x.shape)}, expected ({axes}, {self.embed_dim}) or "
                f"(T, {self.embed_dim})"
            )
        if cache is None:
            return
        if not isinstance(cache, KeyValueCache):
            raise TypeError(
                f"{describe(self)}: given a {type(cache).__name__} as cache, expected a KeyValueCache; masks are "
                "given by name, attn_mask= and key_padding_mask="
            )
        if not (self.causal or is_causal):
            raise ValueError(
                f"{describe(self)}: a cache needs causal=True: tokens before may not see those that come later"
            )
        if attn_mask is not None:
            raise ValueError(
                f"{describe(self)}: a cache and attn_mask cannot be given together; key_padding_mask can, for the "
                "tokens in the cache and the new ones"
            )

    def extra_repr(self) -> str:
        grouped = "" if self.num_kv_heads == self.num_heads else f"num_kv_heads={self.num_kv_heads}, "
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, {grouped}causal={self.causal}, "
            f"bias={self.in_proj_bias is not None}, dropout={self.dropout}, batch_first={self.batch_first}, "
            f"implementation={self.implementation!r}"
        )


def check_positions(rotary: Any, alibi: Any, num_heads: int) -> None:
    """Raise TypeError or ValueError for parts that are no positions, or are for other heads."""
    for name, part, method, kind in (
        ("rotary", rotary, "rotate", "RotaryPositions(head_dim)"),
        ("alibi", alibi, "bias", "AlibiPositions(num_heads)"),
    ):
        if part is not None and not callable(getattr(part, method, None)):
            raise TypeError(f"SelfAttention: given {name}={part!r}, expected {kind}")
    heads = getattr(alibi, "num_heads", num_heads)
    if heads != num_heads:
        raise ValueError(f"SelfAttention: given alibi for {heads} heads and num_heads={num_heads}, expected as many")
