"""Multi-head attention, the twin of torch.nn.MultiheadAttention. Theory: docs/multihead_attention.md."""

from collections.abc import Sequence

import torch
from ds_core import Linear, Module, ShapeError, accumulate, linear, linear_backward, parameter
from ds_core.engine.trace import describe
from ds_core.initializers import xavier_normal_, xavier_uniform_
from einops import rearrange
from torch import Tensor

from ds_transformers.attentions.heads import merge_heads, split_heads
from ds_transformers.attentions.implementations import (
    IMPLEMENTATIONS,
    check_arguments,
    draw_attention_dropout_mask,
)
from ds_transformers.attentions.masks import check_masks, first_aligned_causal, merge_masks, nan_where_nothing_visible

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a head, E = embed_dim = H D


class MultiheadAttention(Module):
    """y = out_proj(concat_h attention(Q_h, K_h, V_h)) with Q, K, V linear in query, key, value.

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2. Twin of torch.nn.MultiheadAttention: same
    arguments, state_dict and initial values. A query that may see no key has output NaN where weights are asked
    for (the softmax of nothing) and attends to nothing (zeros before `out_proj`) where they are not: as the twin.

    Args:
        embed_dim: E, the width of the query and of the output.
        num_heads: H; E must be divisible by it.
        dropout: the probability that a probability of attention is dropped in training.
        bias: whether the projections have one.
        add_bias_kv: append a learned key and value to every sequence.
        add_zero_attn: append a key and a value of zeros to every sequence.
        kdim, vdim: widths of key and value; E by default.
        batch_first: whether inputs and output are (B, T, E) instead of (T, B, E).
        implementation: "vectorized" keeps the probabilities, B H Tq Tk; "tiled" keeps O(T) and computes them
            again, if no weights are asked for; "loops" is for reading.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: E not divisible by H, a dropout outside 0 to 1, an unknown implementation.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str = "vectorized",
        generator: torch.Generator | None = None,
    ) -> None:
        check_arguments("MultiheadAttention", embed_dim, num_heads, dropout, implementation)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.implementation = implementation
        self._packed = self.kdim == self.vdim == embed_dim

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, device=device, dtype=dtype)

        # The order of the draws is the twin's: out_proj, projections of query, key and value, bias_k, bias_v.
        out_proj = Linear(embed_dim, embed_dim, bias, device, dtype, generator=generator)
        if self._packed:
            self.in_proj_weight = parameter(xavier_uniform_(new(3 * embed_dim, embed_dim), generator=generator))
        else:
            self.q_proj_weight = parameter(xavier_uniform_(new(embed_dim, embed_dim), generator=generator))
            self.k_proj_weight = parameter(xavier_uniform_(new(embed_dim, self.kdim), generator=generator))
            self.v_proj_weight = parameter(xavier_uniform_(new(embed_dim, self.vdim), generator=generator))
        self.in_proj_bias: Tensor | None = None
        self.bias_k: Tensor | None = None
        self.bias_v: Tensor | None = None
        if bias:
            self.in_proj_bias = parameter(new(3 * embed_dim).zero_())
            out_proj.bias = parameter(new(embed_dim).zero_())
        if add_bias_kv:
            self.bias_k = parameter(xavier_normal_(new(1, 1, embed_dim), generator=generator))
            self.bias_v = parameter(xavier_normal_(new(1, 1, embed_dim), generator=generator))
        self.out_proj = out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """query (Tq, B, E), key (Tk, B, kdim), value (Tk, B, vdim) -> y (Tq, B, E), weights (B, Tq, Tk) or None.

        With `batch_first` the batch stands first in all four; unbatched inputs (T, E) give unbatched results.

        Args:
            key_padding_mask: (B, Tk) or, unbatched, (Tk,): True for keys to ignore, or floating and added.
            need_weights: whether to return the probabilities, after dropout.
            attn_mask: (Tq, Tk) or (B H, Tq, Tk): True for keys not to see, or floating and added.
            average_attn_weights: whether the weights are the mean over heads, or (B, H, Tq, Tk).
            is_causal: promises that `attn_mask` is the causal mask, so that half of the scores need not be computed
                where neither weights nor a padding mask are asked for.

        Raises:
            ShapeError: inputs or masks that do not fit; masks neither boolean nor floating.
            RuntimeError: `is_causal` without an `attn_mask`.
            ValueError: `is_causal`, but the mask hides other keys.
        """
        self._check(query, key, value)
        batched = query.dim() == 3
        inputs = (query, key, value) if batched else (query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0))
        batch_first = self.batch_first or not batched
        q, k, v = (
            split_heads(linear(x, weight, bias), self.head_dim, batch_first)
            for x, weight, bias in zip(inputs, *self._projections(), strict=True)
        )
        check_masks(self, q, k.shape[2], key_padding_mask, attn_mask, is_causal, batched)
        trusted = is_causal and key_padding_mask is None and not need_weights
        visible = merge_masks(q, key_padding_mask, None if trusted else attn_mask)
        k, v, visible = self._append(k, self.bias_k), self._append(v, self.bias_v), self._append_visible(visible)
        if visible is not None and need_weights:
            visible = nan_where_nothing_visible(visible, q.dtype)
        if trusted and q.shape[2] != k.shape[2]:
            visible = first_aligned_causal(q.shape[2], k.shape[2], q)
        dropout_mask = draw_attention_dropout_mask(q, k.shape[2], self.dropout if self.training else 0.0)
        options = {"visible": visible, "causal": trusted and visible is None, "dropout_mask": dropout_mask}
        implementation = "vectorized" if need_weights and self.implementation == "tiled" else self.implementation
        output, kept = IMPLEMENTATIONS[implementation][0](q, k, v, **options)  # (B, H, Tq, D)
        merged = merge_heads(output, batch_first)
        averaged = average_attn_weights if need_weights else None  # None: no weights are returned
        self.save(inputs, (q, k, v), merged, kept, options, implementation, (batch_first, batched, averaged))
        y = self.out_proj.forward(merged)
        weights = None if averaged is None else self._weights(kept, dropout_mask, averaged)
        if batched:
            return y, weights
        return y.squeeze(0), None if weights is None else weights.squeeze(0)

    def backward(
        self, dout: Tensor | None, dweights: Tensor | None = None, *, input_gradient: bool = True
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of y and of the weights, shaped as they are -> dquery, dkey, dvalue.

        Raises:
            ValueError: `dweights` given, but forward returned no weights.
        """
        dmerged = self.out_proj.backward(dout if dout is None or dout.dim() == 3 else dout.unsqueeze(0))
        inputs, (q, k, v), merged, kept, options, implementation, layout = self.saved()
        batch_first, batched, averaged = layout
        if dweights is not None and averaged is None:
            raise ValueError(f"{describe(self)}: dweights given, but forward returned no weights")
        own = (*self._projections()[0], self.in_proj_bias, self.bias_k, self.bias_v)
        needed = input_gradient or any(tensor is not None and tensor.requires_grad for tensor in own)
        if (dout is None and dweights is None) or not needed:
            return None, None, None
        dmerged = torch.zeros_like(merged) if dmerged is None else dmerged
        dheads, output = (split_heads(t, self.head_dim, batch_first) for t in (dmerged, merged))
        if dweights is not None:
            dweights = dweights if batched else dweights.unsqueeze(0)
            dprobabilities = self._weights_backward(dweights, options["dropout_mask"], averaged)
            options = {**options, "dprobabilities": dprobabilities}
        dq, dk, dv = IMPLEMENTATIONS[implementation][1](dheads, q, k, v, output, kept, **options)
        keys = inputs[1].shape[1 if batch_first else 0]
        if self.bias_k is not None and self.bias_v is not None:
            # the appended key is every example's, so that its gradient is their sum                         (3)
            accumulate(self.bias_k, rearrange(dk[:, :, keys].sum(0), "h d -> 1 1 (h d)"))
            accumulate(self.bias_v, rearrange(dv[:, :, keys].sum(0), "h d -> 1 1 (h d)"))
        gradients = [merge_heads(d, batch_first) for d in (dq, dk[:, :, :keys], dv[:, :, :keys])]
        dquery, dkey, dvalue = self._projections_backward(gradients, inputs, input_gradient)
        if batched or dquery is None or dkey is None or dvalue is None:
            return dquery, dkey, dvalue
        return dquery.squeeze(0), dkey.squeeze(0), dvalue.squeeze(0)

    def _projections(self) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        """The three weights (E, width of the input) and the three biases (E,) of query, key and value."""
        if self._packed:
            weights: Sequence[Tensor] = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        bias = self.in_proj_bias
        return weights, (None, None, None) if bias is None else bias.chunk(3)

    def _projections_backward(
        self, gradients: Sequence[Tensor], inputs: Sequence[Tensor], input_gradient: bool
    ) -> Sequence[Tensor | None]:
        weights, _ = self._projections()
        trains_bias = self.in_proj_bias is not None and self.in_proj_bias.requires_grad
        results = [
            linear_backward(dy, x, weight, (input_gradient, weight.requires_grad, trains_bias))
            for dy, x, weight in zip(gradients, inputs, weights, strict=True)
        ]
        dinputs, dweights, dbiases = zip(*results, strict=True)
        if self._packed and self.in_proj_weight.requires_grad:
            accumulate(self.in_proj_weight, torch.cat(dweights))
        elif not self._packed:
            for weight, dweight in zip(weights, dweights, strict=True):
                accumulate(weight, dweight)
        if trains_bias:
            accumulate(self.in_proj_bias, torch.cat(dbiases))
        return dinputs

    def _append(self, heads: Tensor, learned: Tensor | None) -> Tensor:
        """Keys or values (B, H, Tk, D), behind them the learned one and the zeros, where the layer has them."""
        batch, _, _, width = heads.shape
        parts = [heads]
        if learned is not None:
            own = rearrange(learned, "1 1 (h d) -> 1 h 1 d", d=width).to(heads.dtype)  # under autocast they differ
            parts.append(own.expand(batch, -1, -1, -1))
        if self.add_zero_attn:
            parts.append(heads.new_zeros(batch, self.num_heads, 1, width))
        return torch.cat(parts, 2) if len(parts) > 1 else heads

    def _append_visible(self, visible: Tensor | None) -> Tensor | None:
        """What was appended to the keys is visible to every query."""
        appended = (self.bias_k is not None) + self.add_zero_attn
        if visible is None or appended == 0:
            return visible
        new = visible.new_ones if visible.dtype == torch.bool else visible.new_zeros  # True; or what adds nothing
        return torch.cat([visible, new(*visible.shape[:-1], appended)], -1)

    @staticmethod
    def _weights(probabilities: Tensor, dropout_mask: Tensor | None, averaged: bool) -> Tensor:
        weights = probabilities if dropout_mask is None else probabilities * dropout_mask
        return weights.mean(1) if averaged else weights  # A_ij = sum_h r_hij P_hij / H                        (1)

    def _weights_backward(self, dweights: Tensor, dropout_mask: Tensor | None, averaged: bool) -> Tensor:
        """dweights (B, Tq, Tk) or (B, H, Tq, Tk) -> what it adds to dP (B, H, Tq, Tk)."""
        if averaged:
            shared = rearrange(dweights, "b q k -> b 1 q k") / self.num_heads
            dweights = shared.expand(-1, self.num_heads, -1, -1)
        # dP_hij = r_hij dA_ij / H                                                                             (2)
        return dweights if dropout_mask is None else dweights * dropout_mask

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        time, batch = (1, 0) if self.batch_first else (0, 1)
        shapes = [tuple(x.shape) for x in (query, key, value)]
        widths = (self.embed_dim, self.kdim, self.vdim)
        fits = len(shapes[0]) in (2, 3) and all(
            len(shape) == len(shapes[0]) and shape[-1] == width for shape, width in zip(shapes, widths, strict=True)
        )
        if fits and len(shapes[0]) == 3:
            fits = shapes[0][batch] == shapes[1][batch] == shapes[2][batch] and shapes[1][time] == shapes[2][time]
        elif fits:
            fits = shapes[1][0] == shapes[2][0]
        if not fits:
            axes = "B, T" if self.batch_first else "T, B"
            raise ShapeError(
                f"{describe(self)}: given query {shapes[0]}, key {shapes[1]}, value {shapes[2]}, expected "
                f"({axes}, width) or (T, width) with widths {widths}, one B, and the T of key and value equal"
            )

    def extra_repr(self) -> str:
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}, "
            f"bias={self.in_proj_bias is not None}, add_bias_kv={self.bias_k is not None}, "
            f"add_zero_attn={self.add_zero_attn}, kdim={self.kdim}, vdim={self.vdim}, batch_first={self.batch_first}, "
            f"implementation={self.implementation!r}"
        )
