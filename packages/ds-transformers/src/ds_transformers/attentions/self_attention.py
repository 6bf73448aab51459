"""Multi-head attention of a sequence to itself: GPT's, BERT's and ViT's. Theory: docs/self_attention.md."""

import torch
from ds_core import Linear, Module, ShapeError, accumulate, linear, linear_backward, parameter
from ds_core.initializers import xavier_uniform_
from einops import rearrange
from torch import Tensor

from ds_transformers.attentions.cache import KeyValueCache
from ds_transformers.attentions.lanes import LANES, check_arguments, draw_keep

# B = batch, H = heads, T = time, D = width of a head, E = embed_dim = H D


class SelfAttention(Module):
    """y = out_proj(concat_h attention(Q_h, K_h, V_h)), where (Q, K, V) = x in_proj_weight^T + in_proj_bias.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2. The parameters have the names, shapes and
    initial values of torch.nn.MultiheadAttention's, so that weights load in both directions; here there is one
    input instead of three, batch first, and no weights to return.

    Args:
        embed_dim: E, the width of x and y.
        num_heads: H; E must be divisible by it.
        causal: whether a token sees only itself and those before it.
        bias: whether both projections have one.
        dropout: the probability that a probability of attention is dropped in training.
        implementation: "vectorized" keeps the probabilities, B H T^2; "tiled" keeps O(T) and computes them again.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: E not divisible by H, an unknown implementation, a dropout outside 0 to 1.
        ShapeError: from `forward`, where x is not (B, T, E) or a padding mask is not (B, T).
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        implementation: str = "vectorized",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_arguments("SelfAttention", embed_dim, num_heads, dropout, implementation)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.causal = causal
        self.dropout = dropout
        self.implementation = implementation
        out_proj = Linear(embed_dim, embed_dim, bias, device, dtype, generator=generator)
        weight = torch.empty(3 * embed_dim, embed_dim, device=device, dtype=dtype)
        self.in_proj_weight = parameter(xavier_uniform_(weight, generator=generator))
        self.in_proj_bias: Tensor | None = None
        if bias:
            self.in_proj_bias = parameter(torch.zeros(3 * embed_dim, device=device, dtype=dtype))
            out_proj.bias = parameter(torch.zeros(embed_dim, device=device, dtype=dtype))
        self.out_proj = out_proj

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, key_padding_mask: Tensor | None = None) -> Tensor:
        """x (B, T, E) -> y (B, T, E).

        Args:
            cache: the tokens before x, which x is appended to; only under `no_record()`, and only where causal.
            key_padding_mask: (B, T) boolean, True where a token is padding, which no token sees.
        """
        self._check(x, cache, key_padding_mask)
        packed = linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, T, 3E)
        heads = rearrange(packed, "b t (three h d) -> three b h t d", three=3, h=self.num_heads).contiguous()
        query, key, value = heads.unbind()
        mask = None if key_padding_mask is None else rearrange(~key_padding_mask, "b t -> b 1 1 t")
        if cache is not None:
            key, value = cache.append(key, value)
        keep = draw_keep(query, key.shape[2], self.dropout if self.training else 0.0)
        forward, _ = LANES[self.implementation]
        output, kept = forward(query, key, value, mask=mask, causal=self.causal, keep=keep)
        merged = rearrange(output, "b h t d -> b t (h d)")
        self.save(x, heads, merged, kept, mask, keep)  # out_proj keeps `merged` as well: no second output is kept
        return self.out_proj.forward(merged)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        dout = self.out_proj.backward(dy)
        x, heads, merged, kept, mask, keep = self.saved()
        bias = self.in_proj_bias
        needs = (input_gradient, self.in_proj_weight.requires_grad, bias is not None and bias.requires_grad)
        if dout is None or not any(needs):
            return None
        dout, output = (rearrange(t, "b t (h d) -> b h t d", h=self.num_heads) for t in (dout, merged))
        _, backward = LANES[self.implementation]
        query, key, value = heads.unbind()
        gradients = backward(dout, query, key, value, output, kept, mask=mask, causal=self.causal, keep=keep)
        dpacked = torch.cat([rearrange(d, "b h t d -> b t h d") for d in gradients], 2).flatten(2)  # (B, T, 3E)
        dx, dweight, dbias = linear_backward(dpacked, x, self.in_proj_weight, needs)
        accumulate(self.in_proj_weight, dweight)
        accumulate(bias, dbias)
        return dx

    def _check(self, x: Tensor, cache: KeyValueCache | None, key_padding_mask: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[2] != self.embed_dim:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (B, T, {self.embed_dim})")
        if cache is not None and not self.causal:
            raise ValueError(f"{self!r}: a cache needs causal=True: tokens before may not see those that come later")
        if key_padding_mask is not None:
            if key_padding_mask.dtype != torch.bool or key_padding_mask.shape != x.shape[:2]:
                raise ShapeError(
                    f"{self!r}: given a key_padding_mask {tuple(key_padding_mask.shape)} of {key_padding_mask.dtype}, "
                    f"expected {tuple(x.shape[:2])} of torch.bool"
                )
            if cache is not None:
                raise ValueError(f"{self!r}: a cache and a key_padding_mask cannot be given together")

    def extra_repr(self) -> str:
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, causal={self.causal}, "
            f"bias={self.in_proj_bias is not None}, dropout={self.dropout}, implementation={self.implementation!r}"
        )
