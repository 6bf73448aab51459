"""The pre-norm Transformer block and its feed-forward half. Theory: docs/block.md."""

from typing import Any

import torch
from ds_core import Linear, Module
from ds_core.engine.composition import backward_through, sum_gradients, trainable
from ds_core.layers.dropout import Dropout
from torch import Tensor

# B = batch, T = time, E = embed_dim, F = hidden


class FeedForward(Module):
    """y = activation(x W1^T + b1) W2^T + b2, at each position alone (Vaswani et al., 2017, equation 2).

    Args:
        embed_dim: E, the width of x and y.
        hidden: F, the width between; 4 E in most models.
        activation: a built layer without parameters, as `GELU(approximate="tanh")`.
        bias: whether b1 and b2 are there.
        dropout: the probability that a hidden unit is dropped.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden: int,
        activation: Any,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.linear1 = Linear(embed_dim, hidden, bias, device, dtype, generator=generator)
        self.activation = activation
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden, embed_dim, bias, device, dtype, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation.forward(self.linear1.forward(x))  # (..., F)
        return self.linear2.forward(self.dropout.forward(hidden))

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        layers = [self.linear1, self.activation, self.dropout, self.linear2]
        dx: Tensor | None = backward_through(layers, dy, input_gradient=input_gradient)
        return dx


class PreNormBlock(Module):
    """y = x + dropout(attention(norm1(x))); z = y + dropout(feed_forward(norm2(y))).

    GPT-2's block (Radford et al., 2019; the order is studied by Xiong et al., "On Layer Normalization in the
    Transformer Architecture", 2020). The parts are built by the caller and may be any layers.

    Args:
        attention: from x (B, T, E) to (B, T, E), as `SelfAttention`; further arguments of `forward` go to it.
        feed_forward: from (B, T, E) to (B, T, E), as `FeedForward`.
        norm1, norm2: two norms over the last dimension, as `LayerNorm(E)`.
        dropout: the probability that an element of either branch is dropped, before it is added.
    """

    def __init__(self, attention: Any, feed_forward: Any, *, norm1: Any, norm2: Any, dropout: float = 0.0) -> None:
        self.norm1 = norm1
        self.attention = attention
        self.dropout1 = Dropout(dropout)
        self.norm2 = norm2
        self.feed_forward = feed_forward
        self.dropout2 = Dropout(dropout)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """x (B, T, E) -> z (B, T, E). `options` are the attention's: `cache`, `key_padding_mask`."""
        y: Tensor = x + self.dropout1.forward(self.attention.forward(self.norm1.forward(x), **options))
        z: Tensor = y + self.dropout2.forward(self.feed_forward.forward(self.norm2.forward(y)))
        return z

    def backward(self, dz: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        below = input_gradient or trainable(self.attention) or trainable(self.norm1)  # whether dy is needed
        feed_forward = [self.norm2, self.feed_forward, self.dropout2]
        dbranch = backward_through(feed_forward, dz, input_gradient=below)
        dy = sum_gradients(dz, dbranch) if below else None  # dy = dz + norm2'(y)^T feed_forward'^T dz        (1)
        attention = [self.norm1, self.attention, self.dropout1]
        dbranch = backward_through(attention, dy, input_gradient=input_gradient)
        # dx = dy + norm1'(x)^T attention'^T dy                                                               (2)
        return sum_gradients(dy, dbranch) if input_gradient else None
