"""The stack of blocks that both towers have. Theory: docs/miniclip/model.md."""

import torch
from ds_core import LayerNorm, Linear, QuickGELU
from ds_core.initializers import normal_
from ds_transformers import PreNormBlock
from torch import Tensor

from ds_zoo.miniclip.config import TowerConfig
from ds_zoo.towers import attention_for, pre_norm_blocks

# E = embed_dim, F = hidden_dim, L = num_layers


def clip_blocks(
    config: TowerConfig,
    tokens: int,
    *,
    causal: bool,
    implementation: str | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
) -> list[PreNormBlock]:
    """L blocks with CLIP's initial weights.

    Args:
        config: the sizes.
        tokens: how long a sequence is at most; beyond 128 attention is "tiled" by default, else "vectorized".
        causal: whether a token sees only itself and those before it.
    """
    blocks = pre_norm_blocks(
        config.num_layers,
        config.embed_dim,
        config.num_heads,
        config.hidden_dim,
        QuickGELU,
        implementation=attention_for(tokens, implementation),
        causal=causal,
        attention_dropout=config.attention_dropout,
        epsilon=config.epsilon,
        device=device,
        dtype=dtype,
        generator=generator,
    )
    # The stream sums 2 L branches, whose first or last matrix starts that much smaller (Radford et al., 2019, 2.3).
    width, depth = config.embed_dim**-0.5, (2 * config.num_layers) ** -0.5
    for made in blocks:
        _draw(made.attention.in_proj_weight, width * depth, generator)
        draw_linear(made.attention.out_proj, width, generator)
        draw_linear(made.feed_forward.linear1, (2 * config.embed_dim) ** -0.5, generator)
        draw_linear(made.feed_forward.linear2, width * depth, generator)
    return blocks


def clip_norm(config: TowerConfig, device: torch.device | str | None, dtype: torch.dtype | None) -> LayerNorm:
    """A normalisation of the tower's width."""
    return LayerNorm(config.embed_dim, config.epsilon, device=device, dtype=dtype)


def draw_linear(layer: Linear, deviation: float, generator: torch.Generator | None) -> None:
    """Draw the weight of a linear layer anew, normal; its bias, if there is one, is zero."""
    _draw(layer.weight, deviation, generator)
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.zero_()


def _draw(tensor: Tensor, deviation: float, generator: torch.Generator | None) -> None:
    with torch.no_grad():
        normal_(tensor, 0.0, deviation, generator=generator)
