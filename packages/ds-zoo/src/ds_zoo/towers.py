"""What the models build their stacks of blocks with."""

from collections.abc import Callable
from typing import Any

import torch
from ds_core import LayerNorm, Linear
from ds_transformers import FeedForward, PreNormBlock, SelfAttention

# E = embed_dim, F = hidden_dim

_LONG = 128  # tokens beyond which tiled attention is faster, and leaner by far


def attention_for(tokens: int, implementation: str | None = None) -> str:
    """The implementation of attention for sequences of so many tokens at most, unless one is asked for."""
    if implementation is not None:
        return implementation
    return "tiled" if tokens > _LONG else "vectorized"


def pre_norm_blocks(
    count: int,
    embed_dim: int,
    num_heads: int,
    hidden_dim: int,
    activation: Callable[[], Any],
    *,
    implementation: str,
    causal: bool = False,
    bias: bool = True,
    qkv_bias: bool = True,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    epsilon: float = 1e-5,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> list[PreNormBlock]:
    """`count` blocks of attention and a feed-forward layer, each behind its norm.

    Args:
        activation: makes the activation of a feed-forward layer.
        implementation: of the attention; see `attention_for`.
        bias: whether linear layers and norms have one.
        qkv_bias: whether queries, keys and values have one, where the others do.
        dropout: at the end of both branches.
        attention_dropout: of the attention's probabilities.
    """
    made: dict[str, Any] = {"device": device, "dtype": dtype}

    def block() -> PreNormBlock:
        attention = SelfAttention(
            embed_dim,
            num_heads,
            causal=causal,
            bias=bias and qkv_bias,
            dropout=attention_dropout,
            implementation=implementation,
            generator=generator,
            **made,
        )
        if bias and not qkv_bias:
            attention.out_proj = Linear(embed_dim, embed_dim, generator=generator, **made)
        feed_forward = FeedForward(embed_dim, hidden_dim, activation(), bias, generator=generator, **made)
        norm1, norm2 = (LayerNorm(embed_dim, epsilon, bias=bias, **made) for _ in range(2))
        return PreNormBlock(attention, feed_forward, norm1=norm1, norm2=norm2, dropout=dropout)

    return [block() for _ in range(count)]
