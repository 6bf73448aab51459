"""The pre-norm Transformer block. Theory: docs/block.md."""

from typing import Any

from ds_core import Dropout, Module
from ds_core.engine.composition import trainable
from ds_core.layers.residual_branch import add_branch_backward
from torch import Tensor

from ds_transformers.blocks.stochastic_depth import StochasticDepth

# B = batch, T = time, E = embed_dim


class PreNormBlock(Module):
    """y = x + dropout(attention(norm1(x))); z = y + dropout(feed_forward(norm2(y))).

    GPT-2's block (Radford et al., 2019; the order is studied by Xiong et al., "On Layer Normalization in the
    Transformer Architecture", 2020). The parts are built by the caller and may be any layers.

    Args:
        attention: from x (B, T, E) to (B, T, E), as `SelfAttention`; further arguments of `forward` go to it.
        feed_forward: from (B, T, E) to (B, T, E), as `FeedForward`.
        norm1, norm2: two norms over the last dimension, as `LayerNorm(E)`. The gradient that they return
            must be new, or share its memory with the given one.
        dropout: the probability that an element of either branch is dropped, before it is added.
        stochastic_depth: the probability that an example goes without a branch, drawn for each of the two; behind
            dropout. `depth_rates` gives one for each block of a stack.

    Raises:
        ValueError: either probability outside 0 to 1.
    """

    def __init__(
        self,
        attention: Any,
        feed_forward: Any,
        *,
        norm1: Any,
        norm2: Any,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        self.norm1 = norm1
        self.attention = attention
        self.dropout1 = Dropout(dropout)
        self.norm2 = norm2
        self.feed_forward = feed_forward
        self.dropout2 = Dropout(dropout)
        # none at all if nothing is left out, so that it costs nothing
        self.stochastic_depth1 = None if stochastic_depth == 0 else StochasticDepth(stochastic_depth)
        self.stochastic_depth2 = None if stochastic_depth == 0 else StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """x (B, T, E) -> z (B, T, E). `options` are the attention's: `cache`, `key_padding_mask`."""
        # Not `add_branch`, which writes into the branch: the parts may be any layers, also such as keep their output.
        branch = self.dropout1.forward(self.attention.forward(self.norm1.forward(x), **options))
        y = x + (branch if self.stochastic_depth1 is None else self.stochastic_depth1.forward(branch))
        branch = self.dropout2.forward(self.feed_forward.forward(self.norm2.forward(y)))
        return y + (branch if self.stochastic_depth2 is None else self.stochastic_depth2.forward(branch))

    def backward(self, dz: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        below = input_gradient or trainable(self.attention, self.norm1)  # whether dy is needed
        feed_forward = _present([self.norm2, self.feed_forward, self.dropout2, self.stochastic_depth2])
        attention = _present([self.norm1, self.attention, self.dropout1, self.stochastic_depth1])
        dy = add_branch_backward(dz, feed_forward, below)  # dy = dz + norm2'(y)^T feed_forward'^T dz           (1)
        return add_branch_backward(dy, attention, input_gradient)  # dx = dy + norm1'(x)^T attention'^T dy      (2)


def _present(layers: list[Any]) -> list[Any]:
    return [layer for layer in layers if layer is not None]
