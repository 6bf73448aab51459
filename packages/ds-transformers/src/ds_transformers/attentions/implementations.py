"""The implementations of attention by name, for heads that may share keys; what the layers of attention have in common.

Theory: docs/grouped_heads.md.
"""

from collections.abc import Callable
from typing import Any

from ds_core.layers.dropout import draw_dropout_mask
from einops import rearrange
from torch import Tensor

from ds_transformers.attentions.attention import attention, attention_backward
from ds_transformers.attentions.heads import repeat_heads, repeat_heads_backward
from ds_transformers.attentions.plain_attention import plain_attention, plain_attention_backward
from ds_transformers.attentions.tiled_attention import tiled_attention, tiled_attention_backward

# B = batch, H = heads, G = heads of keys and values, r = H / G, Tq = queries, Tk = keys, D = width of a head

Pair = tuple[Callable[..., Any], Callable[..., Any]]

IMPLEMENTATIONS: dict[str, Pair] = {
    "vectorized": (attention, attention_backward),
    "tiled": (tiled_attention, tiled_attention_backward),
    "loops": (plain_attention, plain_attention_backward),
}


def attend(implementation: str, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """`attention` by the implementation of that name; r heads of queries may share one of keys and values.

    Ainslie et al., "GQA", 2023; with G = 1 it is Shazeer's multi-query attention ("Fast Transformer Decoding", 2019).

    Args:
        query, key, value: (B, H, Tq, D), (B, G, Tk, D), (B, G, Tk, D), with H = r G.
        options: `visible`, `causal`, `scale`, `dropout_mask`.

    Returns:
        The output (B, H, Tq, D), and what the implementation keeps for `attend_backward`.
    """
    shared = query.shape[1] // key.shape[1]
    forward, _ = IMPLEMENTATIONS[implementation]
    if shared > 1 and _see_the_same(query, **options):
        # As when a text is written, one token at a time: heads that share keys are rows of one product, and nothing is
        # copied.
        rows = rearrange(query, "b (g r) q d -> b g (r q) d", r=shared)
        output, kept = forward(rows, key, value, visible=options.get("visible"), scale=options.get("scale"))
        output, kept = (rearrange(t, "b g (r q) x -> b (g r) q x", r=shared) for t in (output, kept))
        return output, kept
    return forward(query, repeat_heads(key, shared), repeat_heads(value, shared), **options)  # type: ignore[no-any-return]


def attend_backward(
    implementation: str,
    dout: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    kept: Tensor,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """dout (B, H, Tq, D), inputs and results of `attend` -> dquery, dkey, dvalue, each shaped as its tensor."""
    shared = query.shape[1] // key.shape[1]
    repeated = (repeat_heads(key, shared), repeat_heads(value, shared))
    dquery, dkey, dvalue = IMPLEMENTATIONS[implementation][1](dout, query, *repeated, output, kept, **options)
    return dquery, repeat_heads_backward(dkey, shared), repeat_heads_backward(dvalue, shared)


def _see_the_same(
    query: Tensor, visible: Tensor | None = None, causal: bool = False, dropout_mask: Any = None, **_: Any
) -> bool:
    """Whether all queries of all heads of an example see the same keys, as at the end of a text, or all but padding."""
    if dropout_mask is not None or (causal and query.shape[2] > 1):
        return False
    return visible is None or visible.shape[-3:-1] == (1, 1)


def draw_attention_dropout_mask(query: Tensor, keys: int, p: float) -> Tensor | None:
    """What dropout multiplies the probabilities by: 0 with probability p, else 1 / (1 - p), (B, H, Tq, Tk)."""
    if p == 0:
        return None
    return draw_dropout_mask(query.new_empty(()).expand(*query.shape[:3], keys), p)


def check_arguments(
    layer: str, embed_dim: int, num_heads: int, dropout: float, implementation: str, num_kv_heads: int | None = None
) -> None:
    """Raise ValueError for constructor arguments that no attention can have."""
    if num_heads <= 0 or embed_dim <= 0 or embed_dim % num_heads != 0:
        raise ValueError(
            f"{layer}: given embed_dim={embed_dim} and num_heads={num_heads}, "
            "expected embed_dim to be a positive multiple of num_heads"
        )
    if num_kv_heads is not None and (num_kv_heads <= 0 or num_heads % num_kv_heads != 0):
        raise ValueError(
            f"{layer}: given num_heads={num_heads} and num_kv_heads={num_kv_heads}, "
            "expected num_heads to be a multiple of num_kv_heads"
        )
    if not 0 <= dropout <= 1:
        raise ValueError(f"{layer}: given dropout={dropout}, expected a probability between 0 and 1")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"{layer}: given implementation={implementation!r}, expected one of {', '.join(IMPLEMENTATIONS)}"
        )
