"""MiniViT: the Vision Transformer's body, both passes written out. Theory: docs/minivit/model.md."""

from pathlib import Path
from typing import Any

import torch
from ds_core import GELU, Dropout, LayerNorm, Linear, Module, Tanh
from ds_core.engine.composition import backward_through
from ds_core.initializers import normal_
from torch import Tensor

from ds_zoo.minivit.config import MiniViTConfig
from ds_zoo.minivit.outputs import MiniViTOutput
from ds_zoo.towers import attention_for, pre_norm_blocks
from ds_zoo.vision.image_tokens import ImageTokens

# B = batch, C = num_channels, H, W = height and width of the images, T = tokens: the class token and the patches,
# E = embed_dim, R = width of the pooler's output


class MiniViT(Module):
    """Images to tokens that know of each other: transformers' ViTModel.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020. Patches become tokens, a class token goes in front; each
    block adds what its attention and its feed-forward layer find; a norm ends it.

    Args:
        config: the sizes.
        pooler: whether a linear layer and a tanh read the class token, as in ViTModel; classifiers do without.
        implementation: of the attention: "vectorized", "tiled" or "loops". None takes the faster one: tiled for more
            than 128 tokens.
        generator: draws the initial weights.

    Raises:
        ShapeError: from `forward`, for images of another shape or dtype.
    """

    def __init__(
        self,
        config: MiniViTConfig,
        *,
        pooler: bool = True,
        implementation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        embed_dim = config.embed_dim
        place: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        self.tokens = ImageTokens(config.image_size, config.patch_size, config.num_channels, embed_dim, **place)
        self.dropout = Dropout(config.dropout)
        self.blocks = pre_norm_blocks(
            config.num_layers,
            embed_dim,
            config.num_heads,
            config.hidden_dim,
            GELU,
            implementation=attention_for(config.num_tokens, implementation),
            qkv_bias=config.qkv_bias,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            epsilon=config.epsilon,
            **place,
        )
        self.norm = LayerNorm(embed_dim, config.epsilon, device=device, dtype=dtype)
        self.pooler: Linear | None = None
        if pooler:
            self.pooler = Linear(embed_dim, config.pooler_dim or embed_dim, **place)
            self.tanh = Tanh()
        initialise(self, config.initializer_range, generator)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> MiniViTOutput:
        """pixel_values (B, C, H, W) -> last_hidden_state (B, T, E), pooler_output (B, R).

        Args:
            interpolate_pos_encoding: take images of any size, and the positions between the learned ones for them.
        """
        x = self.dropout.forward(self.tokens.forward(pixel_values, interpolate_pos_encoding))  # x^0          (1)
        for block in self.blocks:
            x = block.forward(x)  # (2)
        hidden = self.norm.forward(x)  # h                                                                    (3)
        if self.pooler is None:
            return MiniViTOutput(hidden)
        self.save(hidden.shape)
        return MiniViTOutput(hidden, self.tanh.forward(self.pooler.forward(hidden[:, 0])))  # (4)

    def backward(self, gradients: MiniViTOutput | None, *, input_gradient: bool = True) -> Tensor | None:
        """The gradients of the outputs, None for those without -> dpixel_values (B, C, H, W)."""
        dhidden, dpooled = (None, None) if gradients is None else (gradients.last_hidden_state, gradients.pooler_output)
        if self.pooler is not None:
            dfirst = self.pooler.backward(self.tanh.backward(dpooled))
            (shape,) = self.saved()
            if dfirst is not None:
                # A copy, because the gradient that was given is not ours to change
                dhidden = dfirst.new_zeros(shape) if dhidden is None else dhidden.clone()
                dhidden[:, 0] += dfirst  # dh_b0 = dh_b0 + W_r^T (dr (1 - r^2))                               (5)
        layers = [self.tokens, self.dropout, *self.blocks, self.norm]
        dx: Tensor | None = backward_through(layers, dhidden, input_gradient=input_gradient)
        return dx

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> Any:
        """Read a ViT that transformers or `save_pretrained` wrote; options and errors: `pretrained.load_pretrained`.

        Returns:
            A `MiniViT` or a `MiniViTForImageClassification`, whichever `architectures` in config.json names.
        """
        from ds_zoo.minivit.pretrained import load_pretrained  # which imports this file

        return load_pretrained(folder, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers reads them.

        Raises:
            WriteError: the folder cannot be written.
        """
        from ds_zoo.minivit.pretrained import save_folder  # which imports this file

        save_folder(folder, self)

    def extra_repr(self) -> str:
        return str(self.config)


def initialise(model: Module, deviation: float, generator: torch.Generator | None) -> None:
    """transformers' initial weights: normal with this deviation, biases zero, the scales of norms one."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("bias"):
                tensor.zero_()
            elif "norm" not in name:
                normal_(tensor, 0.0, deviation, generator=generator)
