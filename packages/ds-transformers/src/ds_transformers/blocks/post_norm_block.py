"""The post-norm Transformer block, BERT's. Theory: docs/post_norm_block.md."""

from typing import Any

from ds_core import Dropout, Linear, Module
from ds_core.engine.composition import backward_if, trainable
from ds_core.layers.residual_branch import add_branch, add_branch_backward
from torch import Tensor

from ds_transformers.attentions.self_attention import SelfAttention
from ds_transformers.blocks.feed_forward import FeedForward

# B = batch, T = time, E = embed_dim


class PostNormBlock(Module):
    """y = norm1(x + dropout(attention(x))); z = norm2(y + dropout(feed_forward(y))).

    The order of the first Transformer (Vaswani et al., "Attention Is All You Need", 2017, section 3.1) and of BERT
    (Devlin et al., 2019). The parts are built by the caller and may be any layers; `PreNormBlock` is its sibling.

    Args:
        attention: from x (B, T, E) to (B, T, E), as `SelfAttention`; further arguments of `forward` go to it. The
            gradient that it returns must be new, or share its memory with the given one.
        feed_forward: from (B, T, E) to (B, T, E), as `FeedForward`; its gradient likewise.
        norm1, norm2: two norms over the last dimension, as `LayerNorm(E)`.
        dropout: the probability that an element of either branch is dropped, before it is added.

    Raises:
        ValueError: `dropout` outside 0 to 1.
    """

    def __init__(self, attention: Any, feed_forward: Any, *, norm1: Any, norm2: Any, dropout: float = 0.0) -> None:
        self.attention = attention
        self.dropout1 = Dropout(dropout)
        self.norm1 = norm1
        self.feed_forward = feed_forward
        self.dropout2 = Dropout(dropout)
        self.norm2 = norm2

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """x (B, T, E) -> z (B, T, E). `options` are the attention's, such as `key_padding_mask`."""
        # The parts may be any layers, also such as keep their output, which the sum then must not be written into.
        attended_new = type(self.attention) is SelfAttention
        fed_new = type(self.feed_forward) is FeedForward and type([*self.feed_forward][-1]) is Linear
        branch = self.dropout1.forward(self.attention.forward(x, **options))
        y = self.norm1.forward(add_branch(x, branch, attended_new))
        branch = self.dropout2.forward(self.feed_forward.forward(y))
        z: Tensor = self.norm2.forward(add_branch(y, branch, fed_new))
        return z

    def backward(self, dz: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        below_norm1 = input_gradient or trainable(self.attention)  # whether du is needed
        below = below_norm1 or trainable(self.norm1)  # whether dy is needed
        dv = backward_if(below or trainable(self.feed_forward), self.norm2, dz)  # dv = norm2'(v)^T dz          (1)
        # dy = dv + feed_forward'(y)^T dv                                                                       (2)
        dy = add_branch_backward(dv, [self.feed_forward, self.dropout2], below)
        du = backward_if(below_norm1, self.norm1, dy)  # du = norm1'(u)^T dy                                    (3)
        return add_branch_backward(du, [self.attention, self.dropout1], input_gradient)  # dx = du + f'(x)^T du (4)
