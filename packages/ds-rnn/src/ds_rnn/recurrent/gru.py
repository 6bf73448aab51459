"""The layer GRU. Theory: docs/gru.md."""

from typing import Literal

import torch
from torch import Tensor

from ds_rnn.recurrent.gru_through_time import IMPLEMENTATIONS
from ds_rnn.recurrent.recurrent import OneState


class GRU(OneState):
    """Layers of gated recurrent units over sequences (Cho et al., "Learning Phrase Representations using RNN
    Encoder-Decoder", 2014).

    Twin of torch.nn.GRU. Arguments, input, output and the state h_n (L D, N, H) as in `LSTM`, which has a second state
    and the argument `proj_size` besides. `backward(dy, dh)` gives `(dinput, dh0)`; each gradient that is left out or
    None counts as zeros.

    Raises:
        ValueError: for arguments that make no sense.
        ShapeError: from `forward`, if the input, the state or the lengths do not fit.
        TypeError: from `forward`, if the input is neither a tensor nor packed.
    """

    gates = 3
    implementations = IMPLEMENTATIONS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
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
        super().__init__(
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0),
            *(device, dtype, generator, implementation),
        )

    def _one_forward(
        self, x: Tensor, states: list[Tensor], weights: dict[str, Tensor | None], sizes: tuple[int, ...], reverse: bool
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        forward, _ = self.implementations[self.implementation]
        *given, _ = weights.values()
        y, h, gates, q = forward(x, *states, *given, sizes, reverse)
        return y, [h], (x, *states, y, gates, q)

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
        given = (weights["weight_ih"], weights["weight_hh"])
        dx, dh, *dweights = backward(dy, *dstates, *kept, *given, sizes, reverse, needs=(*needs, needs[-1]))
        return dx, [dh], dict(zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), dweights, strict=True))
