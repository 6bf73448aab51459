"""The decoder's layer: attention to itself and to the memory, then a network. Theory: docs/decoder_layer.md."""

from dataclasses import dataclass
from typing import Any

import torch
from ds_core import Dropout, LayerNorm, Linear, Module
from ds_core.engine.composition import backward_if, trainable
from ds_core.layers.residual_branch import (
    add_branch,
    add_branch_backward,
    add_skip,
)
from torch import Tensor

from ds_transformers.attentions.cache import KeyValueCache, ProjectedMemory
from ds_transformers.attentions.cross_attention import CrossAttention
from ds_transformers.attentions.self_attention import SelfAttention
from ds_transformers.blocks.activation import resolve_activation

# B = batch, T = time of the target, S = time of the memory, E = d_model, F = dim_feedforward


@dataclass
class DecoderCache:
    """What one decoder layer keeps while a text is written: the tokens so far, and the memory's keys and values."""

    tokens: KeyValueCache
    memory: ProjectedMemory


class TransformerDecoderLayer(Module):
    """Post-norm: x1 = norm1(x + f(x)), x2 = norm2(x1 + c(x1, m)), z = norm3(x2 + g(x2)) (Vaswani et al., 2017).

    f is self-attention, c attention to the memory m, g the feed-forward network; with `norm_first` each norm stands
    before its branch. Twin of torch.nn.TransformerDecoderLayer: same arguments, state_dict and initial values.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
            implementation, generator: as in `TransformerEncoderLayer`.

    Raises:
        ValueError: E not divisible by H, an unknown activation or implementation, a dropout outside 0 to 1.
        TypeError: an activation without a backward.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str = "vectorized",
        generator: torch.Generator | None = None,
    ) -> None:
        self.norm_first = norm_first
        options: dict[str, Any] = {
            "bias": bias,
            "dropout": dropout,
            "batch_first": batch_first,
            "implementation": implementation,
            "device": device,
            "dtype": dtype,
            "generator": generator,
        }
        self.self_attn = SelfAttention(d_model, nhead, **options)
        self.multihead_attn = CrossAttention(d_model, nhead, **options)
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype, generator=generator)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype, generator=generator)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.dropout3 = Dropout(dropout)
        self.activation = resolve_activation("TransformerDecoderLayer", activation)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt (T, B, E), memory (S, B, E) -> z (T, B, E); with `batch_first` (B, T, E), and (T, E) without a batch.

        Args:
            tgt_mask, memory_mask: (T, T) and (T, S), or one for each head of each example: True where a token may
                not see another, or floating and added.
            tgt_key_padding_mask, memory_key_padding_mask: (B, T), (B, S): True for padding, or floating and added.
            tgt_is_causal, memory_is_causal: promises that the mask is the causal one.

        Raises:
            ShapeError: inputs or masks that do not fit.
            ValueError: a promise that the mask does not keep.
            RuntimeError: a promise without a mask.
        """
        own = {"attn_mask": tgt_mask, "key_padding_mask": tgt_key_padding_mask, "is_causal": tgt_is_causal}
        other = {"attn_mask": memory_mask, "key_padding_mask": memory_key_padding_mask, "is_causal": memory_is_causal}
        return self._run(tgt, memory, own, other)

    def step(self, x: Tensor, cache: DecoderCache, memory_key_padding_mask: Tensor | None = None) -> Tensor:
        """The next tokens x (N, T, E) of N texts in the cache -> z (N, T, E), under `no_record()`.

        Without `batch_first` x and z are (T, N, E).

        Args:
            cache: from `new_cache`; its memory may have fewer examples than x, each for equally many rows of x.
            memory_key_padding_mask: (B, S), True for padding of the memory, or floating and added.

        Raises:
            ShapeError: an input of another width or number of texts, or no room in the cache for T more tokens.
            RuntimeError: where the engine records, or autograd is on.
            ValueError: a cache of another layer.
        """
        other = {"key_padding_mask": memory_key_padding_mask}
        return self._run(x, cache.memory, {"cache": cache.tokens, "is_causal": True}, other)

    def new_cache(self, memory: Tensor, rows: int, max_length: int) -> DecoderCache:
        """Room for `rows` texts of `max_length` tokens, written after a memory (B, S, E), under `no_record()`.

        Without `batch_first` the memory is (S, B, E).
        """
        heads, width = self.self_attn.num_kv_heads, self.self_attn.head_dim
        projected = self.multihead_attn.project(memory)
        # of the dtype that a projection gives here, which under autocast is not the memory's
        tokens = KeyValueCache(rows, heads, max_length, width, device=projected.key.device, dtype=projected.key.dtype)
        return DecoderCache(tokens, projected)

    def _run(self, x: Tensor, memory: Any, own: dict[str, Any], other: dict[str, Any]) -> Tensor:
        # Another layer in the place of one of these may keep its output, or hand on what a layer before it keeps.
        own_new = type(self.self_attn) is SelfAttention and type(self.dropout1) is Dropout
        other_new = type(self.multihead_attn) is CrossAttention and type(self.dropout2) is Dropout
        fed_new = type(self.linear2) is Linear and type(self.dropout3) is Dropout
        if self.norm_first:
            x1 = add_branch(x, self._attend(self.norm1.forward(x), own), own_new)
            x2 = add_branch(x1, self._attend_to_memory(self.norm2.forward(x1), memory, other), other_new)
            return add_branch(x2, self._feed_forward(self.norm3.forward(x2)), fed_new)
        x1 = self.norm1.forward(add_branch(x, self._attend(x, own), own_new))
        x2 = self.norm2.forward(add_branch(x1, self._attend_to_memory(x1, memory, other), other_new))
        z: Tensor = self.norm3.forward(add_branch(x2, self._feed_forward(x2), fed_new))
        return z

    def _attend(self, x: Tensor, options: dict[str, Any]) -> Tensor:
        return self.dropout1.forward(self.self_attn.forward(x, **options))

    def _attend_to_memory(self, x: Tensor, memory: Any, options: dict[str, Any]) -> Tensor:
        return self.dropout2.forward(self.multihead_attn.forward(x, memory, **options))

    def backward(
        self, dz: Tensor | None, *, input_gradient: bool = True, memory_gradient: bool | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """dz -> dtgt, dmemory, of the shapes of tgt and memory.

        Args:
            input_gradient: whether dtgt is wanted.
            memory_gradient: whether dmemory is; as `input_gradient` where not given.
        """
        of_memory = input_gradient if memory_gradient is None else memory_gradient
        own, cross = [self.self_attn, self.dropout1], [self.multihead_attn, self.dropout2]
        feed_forward = [self.linear1, self.activation, self.dropout, self.linear2, self.dropout3]
        below1 = input_gradient or trainable(*own)  # whether a gradient is needed below norm1, ...
        if self.norm_first:
            below2 = below1 or trainable(self.norm1)
            below3 = below2 or of_memory or trainable(self.norm2, *cross)
            dx2 = add_branch_backward(dz, [self.norm3, *feed_forward], below3)  # dx2 = dz + (g norm3)'^T dz       (1)
            dnormed, dmemory = self._memory_backward(dx2, below2 or trainable(self.norm2), of_memory)
            dbranch = backward_if(below2, self.norm2, dnormed)
            dx1 = add_skip(dx2, dbranch) if below2 else None  # dx1 = dx2 + (c norm2)'^T dx2                   (2)
            # dx = dx1 + (f norm1)'^T dx1                                                                        (3)
            return add_branch_backward(dx1, [self.norm1, *own], input_gradient), dmemory
        below2 = below1 or trainable(self.norm1)
        below3 = below2 or of_memory or trainable(*cross)
        below_network = below3 or trainable(self.norm2)
        dw = backward_if(below_network or trainable(*feed_forward), self.norm3, dz)
        dx2 = add_branch_backward(dw, feed_forward, below_network)  # dx2 = dw + g'^T dw with dw = norm3'^T dz     (4)
        dv = backward_if(below3, self.norm2, dx2)
        dbranch, dmemory = self._memory_backward(dv, below2, of_memory)
        dx1 = add_skip(dv, dbranch) if below2 else None  # dx1 = dv + c'^T dv with dv = norm2'^T dx2           (5)
        du = backward_if(below1, self.norm1, dx1)
        # dx = du + f'^T du with du = norm1'^T dx1                                                               (6)
        return add_branch_backward(du, own, input_gradient), dmemory

    def _memory_backward(
        self, dy: Tensor | None, input_gradient: bool, memory_gradient: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Back through the attention to the memory: the gradients of its query and of the memory, where needed."""
        dattended = self.dropout2.backward(dy)
        dx, dmemory = self.multihead_attn.backward(dattended, input_gradient=input_gradient or memory_gradient)
        if dy is None or dmemory is None or not memory_gradient:
            return dx if input_gradient else None, None
        # in the residual stream's dtype also under autocast: those of several layers will be added
        return dx if input_gradient else None, dmemory.to(dy.dtype)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout.forward(self.activation.forward(self.linear1.forward(x)))  # (..., F)
        return self.dropout3.forward(self.linear2.forward(hidden))

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}"
