"""The encoder's layer: self-attention, then a feed-forward network. Theory: docs/encoder_layer.md."""

from typing import Any

import torch
from ds_core import Dropout, LayerNorm, Linear, Module
from ds_core.engine.composition import backward_if, trainable
from ds_core.layers.residual_branch import add_branch, add_branch_backward
from torch import Tensor

from ds_transformers.attentions.self_attention import SelfAttention
from ds_transformers.blocks.activation import resolve_activation

# B = batch, T = time, E = d_model, F = dim_feedforward


class TransformerEncoderLayer(Module):
    """Post-norm, as in Vaswani et al., 2017: y = norm1(x + f(x)), z = norm2(y + g(y)), f the attention, g the network.

    With `norm_first` y = x + f(norm1(x)), z = y + g(norm2(y)). Twin of torch.nn.TransformerEncoderLayer: same
    arguments, state_dict and initial values.

    Args:
        d_model: E, the width of x and z.
        nhead: H, the heads of attention.
        dim_feedforward: F, the width inside the network.
        dropout: the probability that a probability of attention, a hidden unit or an element of a branch is dropped.
        activation: "relu", "gelu", PyTorch's function of a name that ds_core has a layer for, or a layer.
        layer_norm_eps: added to the variance in both norms.
        batch_first: whether x and z are (B, T, E), or (T, B, E).
        norm_first: whether each norm stands before its branch, or behind the sum.
        bias: whether the linear layers and norms have one.
        implementation: of the attention: "vectorized", "tiled" or "loops".
        generator: where the initial weights are drawn from.

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
        self.self_attn = SelfAttention(
            d_model,
            nhead,
            bias=bias,
            dropout=dropout,
            batch_first=batch_first,
            implementation=implementation,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype, generator=generator)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype, generator=generator)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation = resolve_activation("TransformerEncoderLayer", activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src (T, B, E) -> z (T, B, E); with `batch_first` (B, T, E), and (T, E) where there is no batch.

        Args:
            src_mask: (T, T) or (B H, T, T), True where a token may not see another, or floating and added.
            src_key_padding_mask: (B, T) or (T,), True where a token is padding, or floating and added.
            is_causal: promises that `src_mask` is the causal mask, so that half of the scores need not be computed.

        Raises:
            ShapeError: inputs or masks that do not fit.
            ValueError: `is_causal`, but the mask hides other keys.
            RuntimeError: `is_causal` without a `src_mask`.
        """
        masks = {"attn_mask": src_mask, "key_padding_mask": src_key_padding_mask, "is_causal": is_causal}
        # Another layer in the place of one of these may keep its output, or hand on what a layer before it keeps.
        attended_new = type(self.self_attn) is SelfAttention and type(self.dropout1) is Dropout
        fed_new = type(self.linear2) is Linear and type(self.dropout2) is Dropout
        if self.norm_first:
            y = add_branch(src, self._attend(self.norm1.forward(src), masks), attended_new)
            return add_branch(y, self._feed_forward(self.norm2.forward(y)), fed_new)
        y = self.norm1.forward(add_branch(src, self._attend(src, masks), attended_new))
        z: Tensor = self.norm2.forward(add_branch(y, self._feed_forward(y), fed_new))
        return z

    def backward(self, dz: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dz -> dsrc, of the shape of src."""
        attention = [self.self_attn, self.dropout1]
        feed_forward = [self.linear1, self.activation, self.dropout, self.linear2, self.dropout2]
        if self.norm_first:
            below = input_gradient or trainable(self.norm1, *attention)  # whether dy is needed
            # dy = dz + (g norm2)'^T dz and dx = dy + (f norm1)'^T dy                                          (1), (2)
            dy = add_branch_backward(dz, [self.norm2, *feed_forward], below)
            return add_branch_backward(dy, [self.norm1, *attention], input_gradient)
        below_norm1 = input_gradient or trainable(*attention)
        below = below_norm1 or trainable(self.norm1)
        # dv = norm2'^T dz, dy = dv + g'^T dv, du = norm1'^T dy, dx = du + f'^T du                             (3), (4)
        dv = backward_if(below or trainable(*feed_forward), self.norm2, dz)
        dy = add_branch_backward(dv, feed_forward, below)
        du = backward_if(below_norm1, self.norm1, dy)
        return add_branch_backward(du, attention, input_gradient)

    def _attend(self, x: Tensor, masks: dict[str, Any]) -> Tensor:
        return self.dropout1.forward(self.self_attn.forward(x, **masks))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout.forward(self.activation.forward(self.linear1.forward(x)))  # (..., F)
        return self.dropout2.forward(self.linear2.forward(hidden))

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}"
