"""Attention and Transformers with handwritten backward passes."""

from ds_core.text.decoding.beam_search import Hypothesis, beam_search
from ds_core.text.decoding.greedy import greedy
from ds_core.text.decoding.protocol import StepwiseDecoder
from ds_core.training.averaging import AverageLast, average_weights

from ds_transformers.__about__ import __version__
from ds_transformers.attentions.attention import attention, attention_backward
from ds_transformers.attentions.cache import KeyValueCache, ProjectedMemory
from ds_transformers.attentions.cross_attention import CrossAttention
from ds_transformers.attentions.multihead_attention import MultiheadAttention
from ds_transformers.attentions.plain_attention import plain_attention, plain_attention_backward
from ds_transformers.attentions.self_attention import SelfAttention
from ds_transformers.attentions.tiled_attention import tiled_attention, tiled_attention_backward
from ds_transformers.blocks.block import PreNormBlock
from ds_transformers.blocks.decoder import TransformerDecoder
from ds_transformers.blocks.decoder_layer import DecoderCache, TransformerDecoderLayer
from ds_transformers.blocks.encoder import TransformerEncoder
from ds_transformers.blocks.encoder_layer import TransformerEncoderLayer
from ds_transformers.blocks.feed_forward import FeedForward
from ds_transformers.blocks.gated_feed_forward import GatedFeedForward
from ds_transformers.blocks.post_norm_block import PostNormBlock
from ds_transformers.blocks.stochastic_depth import StochasticDepth, depth_rates
from ds_transformers.blocks.transformer import Transformer
from ds_transformers.positions.alibi import AlibiPositions, alibi_bias, alibi_slopes
from ds_transformers.positions.learned_positions import LearnedPositions, add_positions, add_positions_backward
from ds_transformers.positions.patch_embedding import PatchEmbedding
from ds_transformers.positions.rotary import RotaryPositions, rotary, rotary_backward
from ds_transformers.positions.sinusoidal import SinusoidalPositions, sinusoidal_encoding
from ds_transformers.positions.sinusoidal_2d import SinusoidalPositions2d
from ds_transformers.seq2seq.seq2seq_transformer import Seq2SeqConfig, Seq2SeqTransformer

__all__ = [
    "AlibiPositions",
    "AverageLast",
    "CrossAttention",
    "DecoderCache",
    "FeedForward",
    "GatedFeedForward",
    "Hypothesis",
    "KeyValueCache",
    "LearnedPositions",
    "MultiheadAttention",
    "PatchEmbedding",
    "PostNormBlock",
    "PreNormBlock",
    "ProjectedMemory",
    "RotaryPositions",
    "SelfAttention",
    "Seq2SeqConfig",
    "Seq2SeqTransformer",
    "SinusoidalPositions",
    "SinusoidalPositions2d",
    "StepwiseDecoder",
    "StochasticDepth",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "__version__",
    "add_positions",
    "add_positions_backward",
    "alibi_bias",
    "alibi_slopes",
    "attention",
    "attention_backward",
    "average_weights",
    "beam_search",
    "depth_rates",
    "greedy",
    "plain_attention",
    "plain_attention_backward",
    "rotary",
    "rotary_backward",
    "sinusoidal_encoding",
    "tiled_attention",
    "tiled_attention_backward",
]
