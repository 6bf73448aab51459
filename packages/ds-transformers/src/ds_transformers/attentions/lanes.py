"""The implementations of attention by name, and what the layers that choose among them have in common."""

from collections.abc import Callable
from typing import Any

from ds_core.engine.recompute import drawn
from ds_core.layers.dropout import draw_noise
from torch import Tensor

from ds_transformers.attentions.attention import attention, attention_backward
from ds_transformers.attentions.tiled_attention import tiled_attention, tiled_attention_backward

Pair = tuple[Callable[..., Any], Callable[..., Any]]

LANES: dict[str, Pair] = {
    "vectorized": (attention, attention_backward),
    "tiled": (tiled_attention, tiled_attention_backward),
}


def check_arguments(layer: str, embed_dim: int, num_heads: int, dropout: float, implementation: str) -> None:
    """Raise ValueError for constructor arguments that no attention can have."""
    if num_heads <= 0 or embed_dim <= 0 or embed_dim % num_heads != 0:
        raise ValueError(
            f"{layer}: given embed_dim={embed_dim} and num_heads={num_heads}, "
            "expected embed_dim to be a positive multiple of num_heads"
        )
    if not 0 <= dropout <= 1:
        raise ValueError(f"{layer}: given dropout={dropout}, expected a probability between 0 and 1")
    if implementation not in LANES:
        raise ValueError(f"{layer}: given implementation={implementation!r}, expected one of {', '.join(LANES)}")


def draw_keep(query: Tensor, keys: int, p: float) -> Tensor | None:
    """What dropout multiplies the probabilities by: 0 with probability p, else 1 / (1 - p), (B, H, Tq, Tk)."""
    if p == 0:
        return None
    shape = (*query.shape[:3], keys)
    return query.new_zeros(shape) if p == 1 else drawn(lambda: draw_noise(query.new_empty(()).expand(shape), p))
