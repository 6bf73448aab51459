"""Multi-head attention to another sequence: a decoder's to the encoder's output. Theory: docs/cross_attention.md."""

from typing import NamedTuple

import torch
from ds_core import Linear, Module, ShapeError, accumulate, linear, linear_backward, parameter, recording
from ds_core.engine.trace import describe
from ds_core.initializers import xavier_uniform_
from einops import rearrange
from torch import Tensor

from ds_transformers.attentions.cache import ProjectedMemory
from ds_transformers.attentions.heads import merge_heads, split_heads
from ds_transformers.attentions.implementations import (
    attend,
    attend_backward,
    check_arguments,
    draw_attention_dropout_mask,
)
from ds_transformers.attentions.masks import check_masks, merge_masks

# B = batch, H = heads, G = heads of keys and values, Tq = queries, Tk = keys, D = width of a head, E = embed_dim = H D


class Kept(NamedTuple):
    """What a forward under `record()` keeps: `Kept(*entry.saved)` of its entry in the trace."""

    inputs: tuple[Tensor, Tensor]  # x and memory
    heads: tuple[Tensor, Tensor, Tensor]  # query, key, value
    merged: Tensor  # the heads' outputs, side by side
    of_implementation: Tensor  # what the implementation keeps: the probabilities (B, H, Tq, Tk), unless it is "tiled"
    masks: tuple[Tensor | None, Tensor | None]  # `visible`, and dropout's
    layout: tuple[bool, bool]  # whether there is a batch, and whether it comes first


class CrossAttention(Module):
    """y = out_proj(concat_h attention(Q_h, K_h, V_h)) with Q from x, and K and V from the memory.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.3. Parameters, their names and first values are
    those of torch.nn.MultiheadAttention; key and value are the same memory, and no weights are returned.

    Args:
        embed_dim: E, the width of x, of the memory and of y.
        num_heads: H; E must be divisible by it.
        bias: whether the projections have one.
        dropout: the probability that a probability of attention is dropped in training.
        num_kv_heads: G, heads of keys and values, each shared by H / G of the queries'; H by default.
        batch_first: whether x, memory and y are (B, T, E), or (T, B, E).
        implementation: "vectorized", "tiled" or "loops".
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: E not divisible by H, H not by G, an unknown implementation, a dropout outside 0 to 1.
        ShapeError: from `forward`, where x, memory or a mask does not fit.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
        num_kv_heads: int | None = None,
        batch_first: bool = True,
        implementation: str = "vectorized",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        check_arguments("CrossAttention", embed_dim, num_heads, dropout, implementation, num_kv_heads)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.implementation = implementation
        width = self.num_kv_heads * self.head_dim
        out_proj = Linear(embed_dim, embed_dim, bias, device, dtype, generator=generator)
        weight = torch.empty(embed_dim + 2 * width, embed_dim, device=device, dtype=dtype)
        self.in_proj_weight = parameter(xavier_uniform_(weight, generator=generator))
        self.in_proj_bias: Tensor | None = None
        if bias:
            self.in_proj_bias = parameter(torch.zeros(embed_dim + 2 * width, device=device, dtype=dtype))
            out_proj.bias = parameter(torch.zeros(embed_dim, device=device, dtype=dtype))
        self.out_proj = out_proj

    def forward(
        self,
        x: Tensor,
        memory: Tensor | ProjectedMemory,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """x (B, Tq, E), memory (B, Tk, E) -> y (B, Tq, E); in the other layouts as x.

        Args:
            memory: or what `project` made of it. Of a beam search x may then have w rows for each of the memory's,
                one after the other, (B w, Tq, E).
            key_padding_mask: (B, Tk), True where the memory is padding, which is not seen, or floating and added.
            attn_mask: (Tq, Tk) or (B H, Tq, Tk), True where x may not see the memory, or floating and added.
            is_causal: promises that `attn_mask` is the causal mask (there is nothing to gain from it here).

        Raises:
            ShapeError: inputs or masks that do not fit, a projected memory of another batch.
            ValueError: `is_causal` though the mask is another; a memory projected by another layer, or beside an
                `attn_mask` where x has several rows for each of its.
            RuntimeError: `is_causal` without an `attn_mask`; a projected memory where autograd is on or the engine
                records.
        """
        self._check(x, memory)
        if isinstance(memory, ProjectedMemory):
            return self._forward_projected(x, memory, key_padding_mask, attn_mask, is_causal)
        batched = x.dim() == 3
        if not batched:
            x, memory = x.unsqueeze(0), memory.unsqueeze(0)
        batch_first = self.batch_first or not batched
        query = self._query(x, batch_first)
        key, value = self._key_and_value(memory, batch_first)
        check_masks(self, query, key.shape[2], key_padding_mask, attn_mask, is_causal, batched)
        visible = merge_masks(query, key_padding_mask, attn_mask)
        dropout_mask = draw_attention_dropout_mask(query, key.shape[2], self.dropout if self.training else 0.0)
        output, kept = attend(self.implementation, query, key, value, visible=visible, dropout_mask=dropout_mask)
        merged = merge_heads(output, batch_first)
        masks, layout = (visible, dropout_mask), (batched, batch_first)
        self.save(*Kept((x, memory), (query, key, value), merged, kept, masks, layout))
        y = self.out_proj.forward(merged)
        return y if batched else y.squeeze(0)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """dy -> dx, dmemory, shaped as x and memory."""
        dmerged = self.out_proj.backward(dy if dy is None or dy.dim() == 3 else dy.unsqueeze(0))
        (x, memory), (query, key, value), merged, kept, masks, layout = Kept(*self.saved())
        (visible, dropout_mask), (batched, batch_first) = masks, layout
        bias = self.in_proj_bias
        needs = (input_gradient, self.in_proj_weight.requires_grad, bias is not None and bias.requires_grad)
        if dmerged is None or not any(needs):
            return None, None
        dout, output = (split_heads(t, self.head_dim, batch_first) for t in (dmerged, merged))
        gradients = attend_backward(
            self.implementation, dout, query, key, value, output, kept, visible=visible, dropout_mask=dropout_mask
        )  # (B, H, Tq, D), (B, G, Tk, D), (B, G, Tk, D)
        dquery, dkey, dvalue = (merge_heads(d, batch_first) for d in gradients)
        of_x, of_memory = self.in_proj_weight[: self.embed_dim], self.in_proj_weight[self.embed_dim :]
        dx, dweight_x, dbias_x = linear_backward(dquery, x, of_x, needs)
        # K and V come from one memory: as one product, which also adds what reaches the memory by each of them  (1)
        dpacked = torch.cat([dkey, dvalue], 2)
        dmemory, dweight_memory, dbias_memory = linear_backward(dpacked, memory, of_memory, needs)
        if dweight_x is not None and dweight_memory is not None:
            accumulate(self.in_proj_weight, torch.cat([dweight_x, dweight_memory]))
        if dbias_x is not None and dbias_memory is not None:
            accumulate(bias, torch.cat([dbias_x, dbias_memory]))
        if batched or dx is None or dmemory is None:
            return dx, dmemory
        return dx.squeeze(0), dmemory.squeeze(0)

    def project(self, memory: Tensor) -> ProjectedMemory:
        """memory (B, Tk, E) -> its keys and values, to be computed once where many x follow; not for training.

        Without `batch_first` the memory is (Tk, B, E).

        Raises:
            ShapeError: a memory without a batch, or of another width.
            RuntimeError: where autograd is on or the engine records: use it under `no_record()`.
        """
        self._check_projected_use()
        if memory.dim() != 3 or memory.shape[2] != self.embed_dim:
            axes = "B, T" if self.batch_first else "T, B"
            raise ShapeError(
                f"{describe(self)}: given memory {tuple(memory.shape)}, expected ({axes}, {self.embed_dim})"
            )
        return ProjectedMemory(*self._key_and_value(memory, self.batch_first), owner=self)

    def _forward_projected(
        self,
        x: Tensor,
        memory: ProjectedMemory,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        is_causal: bool,
    ) -> Tensor:
        self._check_projected_use()
        batch = memory.key.shape[0]
        query = self._query(x, self.batch_first)  # (B w, H, Tq, D)
        width = query.shape[0] // batch if batch else 1
        if width > 1 and attn_mask is not None:
            raise ValueError(
                f"{describe(self)}: given an attn_mask and {width} rows of x for each of the memory's, expected no mask"
            )
        # the hypotheses of a sentence become queries of one example: its memory is not copied for each
        query = rearrange(query, "(b w) h t d -> b h (w t) d", w=width)
        check_masks(self, query, memory.key.shape[2], key_padding_mask, attn_mask, is_causal)
        visible = merge_masks(query, key_padding_mask, attn_mask)
        dropout_mask = draw_attention_dropout_mask(query, memory.key.shape[2], self.dropout if self.training else 0.0)
        output, _ = attend(
            self.implementation, query, memory.key, memory.value, visible=visible, dropout_mask=dropout_mask
        )
        output = rearrange(output, "b h (w t) d -> (b w) h t d", w=width)
        y: Tensor = self.out_proj.forward(merge_heads(output, self.batch_first))
        return y

    def _check_projected_use(self) -> None:
        if recording() or torch.is_grad_enabled():
            raise RuntimeError(
                f"{describe(self)}: a projected memory keeps nothing for a backward; use it under no_record()"
            )

    def _query(self, x: Tensor, batch_first: bool) -> Tensor:
        bias = None if self.in_proj_bias is None else self.in_proj_bias[: self.embed_dim]
        return split_heads(linear(x, self.in_proj_weight[: self.embed_dim], bias), self.head_dim, batch_first)

    def _key_and_value(self, memory: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        bias = None if self.in_proj_bias is None else self.in_proj_bias[self.embed_dim :]
        packed = linear(memory, self.in_proj_weight[self.embed_dim :], bias)  # (B, Tk, 2 G D)
        key, value = (split_heads(part, self.head_dim, batch_first) for part in packed.chunk(2, 2))
        return key, value

    def _check(self, x: Tensor, memory: Tensor | ProjectedMemory) -> None:
        axes = "B, T" if self.batch_first else "T, B"
        batch = 0 if self.batch_first else 1
        if isinstance(memory, ProjectedMemory):
            if memory.owner is not self:
                raise ValueError(
                    f"{describe(self)}: given a memory that another layer projected; use this layer's project()"
                )
            rows = memory.key.shape[0]
            fits = x.dim() == 3 and x.shape[2] == self.embed_dim
            if not fits or (x.shape[batch] != rows and (x.shape[batch] == 0 or x.shape[batch] % max(1, rows) != 0)):
                raise ShapeError(
                    f"{describe(self)}: given x {tuple(x.shape)} and a projected memory of {rows} examples, expected "
                    f"({axes}, {self.embed_dim}) with B a multiple of {rows}"
                )
            return
        fits = x.dim() == memory.dim() and x.dim() in (2, 3)
        fits = fits and x.shape[-1] == memory.shape[-1] == self.embed_dim
        if not fits or (x.dim() == 3 and x.shape[batch] != memory.shape[batch]):
            raise ShapeError(
                f"{describe(self)}: given x {tuple(x.shape)} and memory {tuple(memory.shape)}, expected ({axes}, "
                f"{self.embed_dim}) with one B, or (T, {self.embed_dim}) for both"
            )

    def extra_repr(self) -> str:
        grouped = "" if self.num_kv_heads == self.num_heads else f"num_kv_heads={self.num_kv_heads}, "
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, {grouped}bias={self.in_proj_bias is not None}, "
            f"dropout={self.dropout}, batch_first={self.batch_first}, implementation={self.implementation!r}"
        )
