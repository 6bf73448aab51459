"""Texts to vectors: CLIP's causal Transformer. Theory: docs/miniclip/model.md."""

import torch
from ds_core import Embedding, Linear, Module, ShapeError
from ds_core.engine.composition import backward_through
from ds_core.initializers import normal_
from ds_transformers import LearnedPositions
from torch import Tensor

from ds_zoo.miniclip.blocks import clip_blocks, clip_norm, draw_linear
from ds_zoo.miniclip.config import TextConfig
from ds_zoo.miniclip.select_token import SelectToken, end_positions

# N = texts, T = tokens, E = embed_dim, P = projection_dim


class TextTower(Module):
    """Tokens to one vector a text: that of its end token, which has seen all of the text.

    Args:
        config: the sizes.
        projection_dim: P.
        implementation: of the attention; None takes the faster one.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, if tokens or mask are of another shape, or the texts are too long.
    """

    def __init__(
        self,
        config: TextConfig,
        projection_dim: int,
        *,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        width = config.embed_dim
        self.tokens = Embedding(config.vocab_size, width, device=device, dtype=dtype, generator=generator)
        self.positions = LearnedPositions(config.max_length, width, device, dtype, generator=generator)
        self.blocks = clip_blocks(
            config,
            config.max_length,
            causal=True,
            implementation=implementation,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.select = SelectToken()
        self.norm = clip_norm(config, device, dtype)
        self.projection = Linear(width, projection_dim, False, device, dtype, generator=generator)
        with torch.no_grad():
            normal_(self.tokens.weight, 0.0, 0.02, generator=generator)
        draw_linear(self.projection, width**-0.5, generator)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """input_ids (N, T) int64, attention_mask (N, T), 0 where a token is padding -> (N, P), not yet normalised."""
        self._check(input_ids, attention_mask)
        hidden = None if attention_mask is None else attention_mask == 0
        x = self.positions.forward(self.tokens.forward(input_ids))
        for block in self.blocks:
            x = block.forward(x, key_padding_mask=hidden)
        # The norm and the projection treat each token alone: only the one that is taken needs them.
        end = self.select.forward(x, end_positions(input_ids, self.config.end_token))
        y: Tensor = self.projection.forward(self.norm.forward(end))
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> None:
        """dy (N, P); tokens are whole numbers and get no gradient."""
        layers = [self.tokens, self.positions, *self.blocks, self.select, self.norm, self.projection]
        backward_through(layers, dy, input_gradient=False)

    def _check(self, input_ids: Tensor, attention_mask: Tensor | None) -> None:
        most = self.config.max_length
        if input_ids.dim() != 2 or not 1 <= input_ids.shape[1] <= most:
            raise ShapeError(
                f"MiniCLIP: given input_ids of shape {tuple(input_ids.shape)}, expected (N, T) of 1 to {most} tokens"
            )
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ShapeError(
                f"MiniCLIP: given attention_mask {tuple(attention_mask.shape)} for input_ids "
                f"{tuple(input_ids.shape)}, expected the same shape"
            )
