"""The gated feed-forward network, SwiGLU and its kin. Theory: docs/gated_feed_forward.md."""

from typing import Any

import torch
from ds_core import (
    Linear,
    Module,
    accumulate,
    compilable,
    fast_form,
    linear,
    linear_backward,
    no_record,
    record,
    recording,
    reuse,
)
from ds_core.activations.sigmoid import logistic, plain_sigmoid
from ds_core.engine.composition import merge_gradients
from ds_core.layers.dropout import draw_dropout_mask, dropout, dropout_backward
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.exponential import LOG2_E
from torch import Tensor

from ds_transformers.blocks.activation import resolve_activation

# E = embed_dim, F = hidden, gate = x W_gate^T and up = x W_up^T


def plain_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up -> hidden, all (..., F)."""
    return gate * plain_sigmoid(gate) * up  # h = silu(gate) up


def plain_swiglu_backward(dhidden: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dhidden, gate, up -> dgate, dup and hidden, all (..., F)."""
    s = plain_sigmoid(gate)
    activated = gate * s
    dup = dhidden * activated  # dup = dhidden silu(gate)                                                   (4)
    slope = activated + s * (1 - activated)  # silu' = silu + s (1 - silu)                                  (6)
    dgate = dhidden * up * slope  # dgate = dhidden up silu'                                                (5)
    return dgate, dup, activated * up


# The fast pair computes the activation and the product in one pass, in chunks that stay in the cache, and takes its
# exponential as a power of 2.


@fast_form(plain_swiglu)
@compilable
def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """gate, up -> hidden = silu(gate) up, all (..., F): `gated` and its activation in one pass."""
    (hidden,) = elementwise(_product, gate, up)
    return hidden


@fast_form(plain_swiglu_backward)
@compilable
def swiglu_backward(dhidden: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """dhidden, gate, up -> dgate, dup, and hidden once more, which the gradient of W_down needs; all (..., F)."""
    dgate, dup, hidden = elementwise(_gradients, dhidden, gate, up, results=3)
    return dgate, dup, hidden


def _product(gate: Tensor, up: Tensor, out: Out) -> tuple[Tensor]:
    sigmoid = logistic(gate * -LOG2_E)
    activated = torch.mul(gate, sigmoid, out=reuse(sigmoid))
    return (torch.mul(activated, up, out=out[0]),)


def _gradients(dhidden: Tensor, gate: Tensor, up: Tensor, out: Out) -> tuple[Tensor, Tensor, Tensor]:
    sigmoid = logistic(gate * -LOG2_E)
    activated = gate * sigmoid
    hidden = torch.mul(activated, up, out=out[2])
    dup = torch.mul(dhidden, activated, out=out[1])  # dup = dhidden silu(gate)                             (4)
    one = torch.ones((), dtype=gate.dtype, device=gate.device)
    slope = torch.lerp(activated, one, sigmoid, out=reuse(sigmoid))  # silu' = silu + s (1 - silu)          (6)
    dgate = torch.mul(dhidden, up, out=out[0])
    return dgate.mul_(slope), dup, hidden  # dgate = dhidden up silu'                                       (5)


def gated(activated: Tensor, up: Tensor) -> Tensor:
    """activated = activation(gate), up -> hidden, all (..., F)."""
    return activated * up


def gated_backward(dhidden: Tensor, activated: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """dhidden, activated, up -> dactivated, dup, all (..., F)."""
    dactivated = dhidden * up  # dactivated = dhidden up                                                    (3)
    dup = dhidden * activated  # dup = dhidden activation(gate)                                             (4)
    return dactivated, dup


class GatedFeedForward(Module):
    """y = (activation(x W_gate^T) * (x W_up^T)) W_down^T, at each position alone.

    Shazeer, "GLU Variants Improve Transformer", 2020, equation 6: SwiGLU with SiLU, the default; GEGLU with `GELU()`,
    ReGLU with `ReLU()`, GLU with `Sigmoid()`, Bilinear with `Identity()`. The names of the parameters are those of
    Llama's layer, whose weights load as they are. Keeps x, gate and up; what lies between them and y is computed
    again in backward.

    Args:
        embed_dim: E, the width of x and y.
        hidden: F, the width between; about 8 E / 3 for as many parameters as `FeedForward` has with 4 E.
        activation: a built layer that draws nothing at random; None: SiLU, in one pass with the product.
        bias: whether the three linear layers have one.
        dropout: the probability that a hidden unit is dropped, behind the product.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: a dropout outside 0 to 1.
        ShapeError: from `forward`, where the last dimension of x is not E.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden: int,
        activation: Any = None,
        bias: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        if not 0 <= dropout <= 1:
            raise ValueError(f"GatedFeedForward: given dropout={dropout}, expected a probability between 0 and 1")
        self.gate_proj = Linear(embed_dim, hidden, bias, device, dtype, generator=generator)
        self.up_proj = Linear(embed_dim, hidden, bias, device, dtype, generator=generator)
        self.down_proj = Linear(hidden, embed_dim, bias, device, dtype, generator=generator)
        self.activation = None if activation is None else resolve_activation("GatedFeedForward", activation)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """x (..., E) -> y (..., E)."""
        gate, up = self.gate_proj.forward(x), self.up_proj.forward(x)  # (..., F)
        dropout_mask = self._draw_dropout_mask(gate)
        self.save(gate, up, dropout_mask, reads=[self.down_proj.weight])
        hidden = self._product(gate, up)
        hidden = hidden if dropout_mask is None else dropout(hidden, dropout_mask)
        # not down_proj.forward, which would keep `hidden`
        return linear(hidden, self.down_proj.weight, self.down_proj.bias)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (..., E) -> dx (..., E), or None without `input_gradient`; adds to those of the three layers."""
        gate, up, dropout_mask = self.saved()
        dgate = dup = None
        if dy is not None:
            dgate, dup = self._down_backward(dy, gate, up, dropout_mask)
        dx_up = self.up_proj.backward(dup, input_gradient=input_gradient)  # dW_up = dup^T x                (7)
        dx_gate = self.gate_proj.backward(dgate, input_gradient=input_gradient)  # dW_gate = dgate^T x      (7)
        return merge_gradients(dx_gate, dx_up)  # dx = dgate W_gate + dup W_up                                (8)

    def _down_backward(
        self, dy: Tensor, gate: Tensor, up: Tensor, dropout_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """dy (..., E) -> dgate, dup (..., F); adds to the gradients of `down_proj`."""
        weight, bias = self.down_proj.weight, self.down_proj.bias
        # `gate` for its shape alone: `hidden`, which only dW_down reads, is not there yet
        dhidden, _, _ = linear_backward(dy, gate, weight, (True, False, False))  # dhidden = dy W_down      (1)
        assert dhidden is not None
        dhidden = dhidden if dropout_mask is None else dropout_backward(dhidden, dropout_mask)
        dgate, dup, hidden = self._product_backward(dhidden, gate, up)
        del dhidden
        hidden = hidden if dropout_mask is None else dropout(hidden, dropout_mask)
        needs = (False, weight.requires_grad, bias is not None and bias.requires_grad)
        _, dweight, dbias = linear_backward(dy, hidden, weight, needs)  # dW_down = dy^T hidden             (2)
        accumulate(weight, dweight)
        accumulate(bias, dbias)
        return dgate, dup

    def _product(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.activation is None:
            return swiglu(gate, up)
        if not recording():
            return gated(self.activation.forward(gate), up)
        with no_record():  # the activation is to keep nothing
            return gated(self.activation.forward(gate), up)

    def _product_backward(self, dhidden: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dhidden, gate, up -> dgate, dup, and hidden once more."""
        if self.activation is None:
            return swiglu_backward(dhidden, gate, up)
        with record():
            activated = self.activation.forward(gate)
            dactivated, dup = gated_backward(dhidden, activated, up)
            dgate = self.activation.backward(dactivated)  # dgate = dactivated activation'(gate)            (5)
        return dgate, dup, gated(activated, up)

    def _draw_dropout_mask(self, gate: Tensor) -> Tensor | None:
        if not self.training or self.dropout == 0:
            return None
        return draw_dropout_mask(gate, self.dropout)

    def extra_repr(self) -> str:
        return f"dropout={self.dropout}"
