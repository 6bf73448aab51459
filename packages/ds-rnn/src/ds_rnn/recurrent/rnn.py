"""The layer RNN. Theory: docs/rnn.md."""

from typing import Literal

import torch
from torch import Tensor

from ds_rnn.recurrent.recurrent import OneState
from ds_rnn.recurrent.rnn_cell import check_nonlinearity
from ds_rnn.recurrent.rnn_through_time import IMPLEMENTATIONS


class RNN(OneState):
    """Layers of an Elman network over sequences (Elman, "Finding Structure in Time", 1990).

    Twin of torch.nn.RNN. Input, output and the state h_n (L D, N, H) as in `LSTM`, which has a second state and the
    argument `proj_size` besides. `backward(dy, dh)` gives `(dinput, dh0)`; each gradient that is left out or None
    counts as zeros.

    Args:
        nonlinearity: "tanh" or "relu".

    Raises:
        ValueError: for arguments that make no sense.
        ShapeError: from `forward`, if the input, the state or the lengths do not fit.
        TypeError: from `forward`, if the input is neither a tensor nor packed.
    """

    gates = 1
    implementations = IMPLEMENTATIONS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        check_nonlinearity(type(self).__name__, nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0),
            *(device, dtype, generator, implementation),
        )

    def _one_forward(
        self, x: Tensor, states: list[Tensor], weights: dict[str, Tensor | None], sizes: tuple[int, ...], reverse: bool
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        forward, _ = self.implementations[self.implementation]
        *given, _ = weights.values()
        y, h = forward(x, *states, *given, self.nonlinearity, sizes, reverse)
        return y, [h], (x, *states, y)

    def _one_backward(
        self,
        dy: Tensor,
        dstates: list[Tensor],
        kept: tuple[Tensor, ...],
        weights: dict[str, Tensor | None],
        sizes: tuple[int, ...],
        reverse: bool,
        input_gradient: bool,
    ) -> tuple[Tensor | None, list[Tensor], dict[str, Tensor | None]]:
        _, backward = self.implementations[self.implementation]
        needs = self._needs(weights, input_gradient)
        given = (weights["weight_ih"], weights["weight_hh"], self.nonlinearity)
        dx, dh, dweight_ih, dweight_hh, dbias = backward(dy, *dstates, *kept, *given, sizes, reverse, needs=needs)
        return dx, [dh], {"weight_ih": dweight_ih, "weight_hh": dweight_hh} | self._bias_gradients(dbias)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")
