"""What a MiniViT returns, by transformers' names."""

from dataclasses import dataclass

from torch import Tensor

# B = batch, T = 1 + number of patches, E = embed_dim, R = pooler_dim


@dataclass
class MiniViTOutput:
    """The tokens after the last norm, and what the pooler makes of the first; with gradients, what backward takes.

    Attributes:
        last_hidden_state: (B, T, E), the class token first.
        pooler_output: (B, R), or None if the model has no pooler.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
