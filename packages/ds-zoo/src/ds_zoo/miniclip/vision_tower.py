"""Images to vectors: CLIP's Vision Transformer. Theory: docs/miniclip/model.md."""

import torch
from ds_core import Linear, Module
from ds_core.engine.composition import backward_through
from ds_core.initializers import normal_
from torch import Tensor

from ds_zoo.miniclip.blocks import clip_blocks, clip_norm, draw_linear
from ds_zoo.miniclip.config import VisionConfig
from ds_zoo.miniclip.select_token import SelectToken
from ds_zoo.vision.image_tokens import ImageTokens

# M = images, C = num_channels, H, W = height and width, E = embed_dim, P = projection_dim


class VisionTower(Module):
    """Pixels to one vector an image: that of the class token.

    Args:
        config: the sizes.
        projection_dim: P.
        implementation: of the attention; None takes the faster one.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, if images are of another shape or dtype.
    """

    def __init__(
        self,
        config: VisionConfig,
        projection_dim: int,
        *,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        width = config.embed_dim
        self.image_tokens = ImageTokens(
            config.image_size,
            config.patch_size,
            config.num_channels,
            width,
            patch_bias=False,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.pre_norm = clip_norm(config, device, dtype)
        self.blocks = clip_blocks(
            config,
            len(self.image_tokens.positions),
            causal=False,
            implementation=implementation,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.select = SelectToken()
        self.post_norm = clip_norm(config, device, dtype)
        self.projection = Linear(width, projection_dim, False, device, dtype, generator=generator)
        with torch.no_grad():
            normal_(self.image_tokens.patches.weight, 0.0, 0.02, generator=generator)
            if self.image_tokens.class_token is not None:
                normal_(self.image_tokens.class_token, 0.0, width**-0.5, generator=generator)
        draw_linear(self.projection, width**-0.5, generator)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """pixel_values (M, C, H, W) -> (M, P), not yet normalised."""
        x = self.pre_norm.forward(self.image_tokens.forward(pixel_values, interpolate_pos_encoding))
        for block in self.blocks:
            x = block.forward(x)
        first = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        y: Tensor = self.projection.forward(self.post_norm.forward(self.select.forward(x, first)))
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (M, P) -> dpixel_values (M, C, H, W), or None without `input_gradient`."""
        layers = [self.image_tokens, self.pre_norm, *self.blocks, self.select, self.post_norm, self.projection]
        dpixel_values: Tensor | None = backward_through(layers, dy, input_gradient=input_gradient)
        return dpixel_values
