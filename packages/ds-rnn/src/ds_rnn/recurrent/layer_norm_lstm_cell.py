"""A cell of one's own: an LSTM whose sums are normalised. Theory: docs/layer_norm_lstm_cell.md."""

from typing import Any

import torch
from ds_core import LayerNorm, Linear, Module, accumulate, parameter
from ds_core.activations.sigmoid import sigmoid
from ds_core.activations.tanh import tanh
from torch import Tensor

# N = batch, I = input_size, H = hidden_size; gates i, f, g, o side by side


class LayerNormLSTMCell(Module):
    """One step of an LSTM with layer normalisation (Ba, Kiros and Hinton, "Layer Normalization", 2016, equations 20 to
    22).

    It is made of layers, and `Recurrence` runs it over sequences: an example of a cell of one's own. Parameters:
    those of `input` (4H x I, no bias), of `state` (4H x H, no bias), of the three norms, and `bias` (4H,), zeros at
    first.

    Args:
        input_size: I.
        hidden_size: H.
        generator: where the initial weights are drawn from.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.input_size = input_size
        self.hidden_size = hidden_size
        placed: dict[str, Any] = {"device": device, "dtype": dtype}
        self.input = Linear(input_size, 4 * hidden_size, bias=False, generator=generator, **placed)
        self.state = Linear(hidden_size, 4 * hidden_size, bias=False, generator=generator, **placed)
        self.input_norm = LayerNorm(4 * hidden_size, bias=False, **placed)
        self.state_norm = LayerNorm(4 * hidden_size, bias=False, **placed)
        self.cell_norm = LayerNorm(hidden_size, **placed)
        self.bias = parameter(torch.zeros(4 * hidden_size, **placed))

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros, twice (N, H)."""
        return x.new_zeros(len(x), self.hidden_size), x.new_zeros(len(x), self.hidden_size)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """input (N, I), h and c (N, H) -> h', c' (N, H)."""
        h, c = hx
        # a = LN(W_x x) + LN(W_h h) + b                                                                     (1)
        of_input = self.input_norm.forward(self.input.forward(input))
        of_state = self.state_norm.forward(self.state.forward(h))
        a_i, a_f, a_g, a_o = (of_input + of_state + self.bias).chunk(4, 1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), tanh(a_g), sigmoid(a_o)
        c_next = f * c + i * g  # c' = f c + i g                                                            (2)
        t = tanh(self.cell_norm.forward(c_next))
        self.save(i, f, g, o, c, t)
        return o * t, c_next  # h' = o tanh(LN(c'))                                                         (3)

    def backward(
        self, dh: Tensor | None, dc: Tensor | None = None, *, input_gradient: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor | None, Tensor | None]]:
        """dh', dc' (N, H) -> (dinput, (dh, dc))."""
        i, f, g, o, c, t = self.saved()
        if dh is None and dc is None:
            for layer in (self.cell_norm, self.state_norm, self.state, self.input_norm, self.input):
                layer.backward(None)
            return None, (None, None)
        dh, dc = (torch.zeros_like(c) if gradient is None else gradient for gradient in (dh, dc))
        dnormed = self.cell_norm.backward(dh * o * (1 - t * t))
        assert dnormed is not None  # it was given a gradient
        dc = dc + dnormed  # dc' += LN'(dh' o (1 - t^2))                                                    (4)
        # da_i = dc' g i (1 - i), da_f = dc' c f (1 - f), da_g = dc' i (1 - g^2), da_o = dh' t o (1 - o)    (5)
        gates = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)]
        da = torch.cat(gates, 1)
        accumulate(self.bias, da.sum(0))  # db = sum_n da                                                   (6)
        # dx = W_x^T LN'(da), dh = W_h^T LN'(da)                                                            (7)
        dh_before = self.state.backward(self.state_norm.backward(da))
        dx = self.input.backward(self.input_norm.backward(da), input_gradient=input_gradient)
        return dx, (dh_before, dc * f)  # dc = dc' f                                                        (8)
