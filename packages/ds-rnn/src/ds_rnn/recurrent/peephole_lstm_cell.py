"""A cell of one's own: an LSTM whose gates see the cell state. Theory: docs/peephole_lstm_cell.md."""

from typing import Any

import torch
from ds_core import Linear, Module, accumulate, parameter
from ds_core.activations.sigmoid import sigmoid
from ds_core.activations.tanh import tanh
from torch import Tensor

# N = batch, I = input_size, H = hidden_size; gates i, f, g, o side by side


class PeepholeLSTMCell(Module):
    """One step of an LSTM with peepholes (Gers, Schraudolph and Schmidhuber, "Learning Precise Timing with LSTM
    Recurrent Networks", 2002).

    The gates i and f see the cell state before the step, o sees the one after it, each number of the state through a
    weight of its own. An example of a cell of one's own, which `Recurrence` runs over sequences. Parameters: those of
    `input` (4H x I, with bias), `state` (4H x H), and `peephole` (3, H) for i, f and o, zeros at first.

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
        self.input = Linear(input_size, 4 * hidden_size, generator=generator, **placed)
        self.state = Linear(hidden_size, 4 * hidden_size, bias=False, generator=generator, **placed)
        self.peephole = parameter(torch.zeros(3, hidden_size, **placed))

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros, twice (N, H)."""
        return x.new_zeros(len(x), self.hidden_size), x.new_zeros(len(x), self.hidden_size)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """input (N, I), h and c (N, H) -> h', c' (N, H)."""
        h, c = hx
        p_i, p_f, p_o = self.peephole
        a_i, a_f, a_g, a_o = (self.input.forward(input) + self.state.forward(h)).chunk(4, 1)
        i, f, g = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c), tanh(a_g)  # i = s(a_i + p_i c), f alike    (1)
        c_next = f * c + i * g  # c' = f c + i g                                                            (2)
        o, t = sigmoid(a_o + p_o * c_next), tanh(c_next)  # o = s(a_o + p_o c')                             (3)
        self.save(i, f, g, o, c, c_next, t)
        return o * t, c_next  # h' = o tanh(c')                                                             (4)

    def backward(
        self, dh: Tensor | None, dc: Tensor | None = None, *, input_gradient: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor | None, Tensor | None]]:
        """dh', dc' (N, H) -> (dinput, (dh, dc))."""
        i, f, g, o, c, c_next, t = self.saved()
        if dh is None and dc is None:
            for layer in (self.state, self.input):
                layer.backward(None)
            return None, (None, None)
        dh, dc = (torch.zeros_like(c) if gradient is None else gradient for gradient in (dh, dc))
        p_i, p_f, p_o = self.peephole.detach()
        da_o = dh * t * o * (1 - o)  # da_o = dh' t o (1 - o)                                               (5)
        dc = dc + dh * o * (1 - t * t) + da_o * p_o  # dc' += dh' o (1 - t^2) + da_o p_o                    (6)
        # da_i = dc' g i (1 - i), da_f = dc' c f (1 - f), da_g = dc' i (1 - g^2)                            (7)
        da_i, da_f, da_g = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g)
        # dp_i = sum_n da_i c, dp_f = sum_n da_f c, dp_o = sum_n da_o c'                                    (8)
        accumulate(self.peephole, torch.stack([(da_i * c).sum(0), (da_f * c).sum(0), (da_o * c_next).sum(0)]))
        da = torch.cat([da_i, da_f, da_g, da_o], 1)  # dx = W_x^T da, dh = W_h^T da                         (9)
        dh_before = self.state.backward(da)
        dx = self.input.backward(da, input_gradient=input_gradient)
        return dx, (dh_before, dc * f + da_i * p_i + da_f * p_f)  # dc = dc' f + da_i p_i + da_f p_f       (10)
