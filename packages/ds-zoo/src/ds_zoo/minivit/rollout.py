"""Which patches a MiniViT has looked at: attention rollout. Theory: docs/minivit/rollout.md."""

import math
from contextlib import ExitStack
from typing import Any

import torch
from ds_cnn import tapped
from ds_core.activations.softmax import softmax
from ds_core.training.evaluation import evaluation_mode
from einops import rearrange
from torch import Tensor

from ds_zoo.minivit.model import MiniViT

# B = batch, H = heads, T = tokens: the class token and N patches, D = width of a head, L = layers,
# Y, X = rows and columns of patches


def attention_probabilities(attention: Any, x: Tensor) -> Tensor:
    """x (B, T, E), what a `SelfAttention` was given -> its probabilities (B, H, T, T), a row for each query.

    They are computed from the layer's weights: the layer itself keeps them only while recording, and its tiled
    implementation never has them all.
    """
    packed, _ = attention.project(x)  # (B, T, 3 E)
    query, key, _ = rearrange(packed, "b t (part h d) -> part b h t d", part=3, h=attention.num_heads)
    scores = torch.matmul(query, key.transpose(-2, -1)) / math.sqrt(attention.head_dim)
    return softmax(scores, -1)  # P_qk = exp(s_qk) / sum_j exp(s_qj), s = Q K^T / sqrt(D)                (1)


def attention_maps(model: Any, pixel_values: Tensor, **options: Any) -> list[Tensor]:
    """The probabilities (B, H, T, T) of each layer for these images, in evaluation mode; nothing else changes.

    Args:
        model: a `MiniViT`, or a model with one inside, in any mode.
        options: for its forward, such as interpolate_pos_encoding=True.
    """
    body = next(module for module in model.modules() if isinstance(module, MiniViT))
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model))
        taps = [stack.enter_context(tapped(block.norm1)) for block in body.blocks]
        model.forward(pixel_values, **options)
        return [
            attention_probabilities(block.attention, tap.outputs[0])
            for block, tap in zip(body.blocks, taps, strict=True)
        ]


def rollout(probabilities: list[Tensor]) -> Tensor:
    """The probabilities (B, H, T, T) of L layers -> (B, T, T): how much of each input token is in each output token.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020, section 3. Every row sums to 1.
    """
    count = probabilities[0].shape[-1]
    same = torch.eye(count, device=probabilities[0].device, dtype=probabilities[0].dtype)
    mixed = same
    for layer in probabilities:
        mixing = (layer.mean(1) + same) / 2  # A_l = (mean_h P_lh + I) / 2                              (2)
        mixed = torch.matmul(mixing, mixed)  # R_l = A_l R_(l-1), R_0 = I                               (3)
    return mixed


def rollout_maps(model: Any, pixel_values: Tensor, **options: Any) -> Tensor:
    """Images (B, C, height, width) -> (B, Y, X): how much of each patch is in what the head reads; its largest is 1.

    Args:
        model: as in `attention_maps`. The head reads the class token, unless the model says `pooling="mean"`.
        options: for its forward.
    """
    mixed = rollout(attention_maps(model, pixel_values, **options))
    pooling = next((module.pooling for module in model.modules() if hasattr(module, "pooling")), "token")
    read = mixed[:, 0] if pooling == "token" else mixed[:, 1:].mean(1)  # (B, T)
    body = next(module for module in model.modules() if isinstance(module, MiniViT))
    patches = rearrange(read[:, 1:], "b (y x) -> b y x", y=pixel_values.shape[2] // body.config.patch_size)
    return patches / patches.amax((1, 2), keepdim=True)  # r_n / max_m r_m                               (4)
