"""Attention and Transformers with handwritten backward passes."""

from ds_transformers.__about__ import __version__
from ds_transformers.attentions.attention import attention, attention_backward
from ds_transformers.attentions.cache import KeyValueCache
from ds_transformers.attentions.cross_attention import CrossAttention
from ds_transformers.attentions.multihead_attention import MultiheadAttention
from ds_transformers.attentions.self_attention import SelfAttention
from ds_transformers.attentions.tiled_attention import tiled_attention, tiled_attention_backward
from ds_transformers.blocks.block import PreNormBlock
from ds_transformers.blocks.decoder import TransformerDecoder
from ds_transformers.blocks.decoder_layer import DecoderCache, TransformerDecoderLayer
from ds_transformers.blocks.encoder import TransformerEncoder
from ds_transformers.blocks.encoder_layer import TransformerEncoderLayer
from ds_transformers.blocks.feed_forward import FeedForward
from ds_transformers.blocks.transformer import Transformer
from ds_transformers.positions.learned_positions import LearnedPositions, add_positions, add_positions_backward

__all__ = [
    "CrossAttention",
    "DecoderCache",
    "FeedForward",
    "KeyValueCache",
    "LearnedPositions",
    "MultiheadAttention",
    "PreNormBlock",
    "SelfAttention",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "__version__",
    "add_positions",
    "add_positions_backward",
    "attention",
    "attention_backward",
    "tiled_attention",
    "tiled_attention_backward",
]
