"""Attention and Transformers with handwritten backward passes."""

from ds_transformers.__about__ import __version__
from ds_transformers.attention import attention, attention_backward
from ds_transformers.block import FeedForward, PreNormBlock
from ds_transformers.cache import KeyValueCache
from ds_transformers.multihead_attention import MultiheadAttention
from ds_transformers.positions import LearnedPositions, add_positions, add_positions_backward
from ds_transformers.self_attention import SelfAttention
from ds_transformers.tiled_attention import tiled_attention, tiled_attention_backward

__all__ = [
    "FeedForward",
    "KeyValueCache",
    "LearnedPositions",
    "MultiheadAttention",
    "PreNormBlock",
    "SelfAttention",
    "__version__",
    "add_positions",
    "add_positions_backward",
    "attention",
    "attention_backward",
    "tiled_attention",
    "tiled_attention_backward",
]
