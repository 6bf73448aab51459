"""The feed-forward half of a Transformer's block: two linear layers, each token alone. Theory: docs/feed_forward.md."""

from typing import Any

import torch
from ds_core import Dropout, Linear, Sequential

from ds_transformers.blocks.activation import resolve_activation

# E = embed_dim, F = hidden


class FeedForward(Sequential):
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
        ShapeError: from `forward`, if the last dimension of x is not E.
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
        super().__init__(
            {
                "linear1": Linear(embed_dim, hidden, bias, device, dtype, generator=generator),
                "activation": resolve_activation("FeedForward", activation),
                "dropout": Dropout(dropout),
                "linear2": Linear(hidden, embed_dim, bias, device, dtype, generator=generator),
            }
        )
