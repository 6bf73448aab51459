"""The feed-forward half of a Transformer's block: two linear layers, each token alone. Theory: docs/feed_forward.md."""

from typing import Any

import torch
from ds_core import Linear, Module
from ds_core.engine.composition import backward_through
from ds_core.layers.dropout import Dropout
from torch import Tensor

from ds_transformers.blocks.activation import make_activation

# E = embed_dim, F = hidden


class FeedForward(Module):
    """y = activation(x W1^T + b1) W2^T + b2, at each position alone (Vaswani et al., 2017, equation 2).

    Args:
        embed_dim: E, the width of x and y.
        hidden: F, the width between; 4 E in most models.
        activation: a built layer without parameters, as `GELU(approximate="tanh")`.
        bias: whether b1 and b2 are there.
        dropout: the probability that a hidden unit is dropped.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: a dropout outside 0 to 1.
        ShapeError: from `forward`, where the last dimension of x is not E.
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
        self.activation = make_activation("FeedForward", activation)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden, embed_dim, bias, device, dtype, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., E) -> y (..., E)."""
        hidden = self.activation.forward(self.linear1.forward(x))  # (..., F)
        return self.linear2.forward(self.dropout.forward(hidden))

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (..., E) -> dx (..., E), or None without `input_gradient`; adds to those of both linear layers."""
        layers = [self.linear1, self.activation, self.dropout, self.linear2]
        # dx = (((dy W2) noise) activation'(u)) W1                                                            (4)
        dx: Tensor | None = backward_through(layers, dy, input_gradient=input_gradient)
        return dx
