"""The layer LSTM. Theory: docs/lstm.md."""

from typing import Any, Literal

import torch
from torch import Tensor

from ds_rnn.recurrent.cell import pair_of_states
from ds_rnn.recurrent.lstm_through_time import IMPLEMENTATIONS
from ds_rnn.recurrent.recurrent import Recurrent

Pair = tuple[Tensor | None, Tensor | None]


class LSTM(Recurrent):
    """LSTM layers over sequences (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; the projection is by Sak
    et al., "Long Short-Term Memory Based Recurrent Neural Network Architectures", 2014).

    Twin of torch.nn.LSTM. Input (T, N, I), or (N, T, I) with `batch_first`, or (T, I) for one sequence; output in the
    same form with D P numbers a step, the directions side by side, and the last states h_n (L D, N, P) and
    c_n (L D, N, H), of one sequence without N. A packed input, any object with the four fields of PyTorch's
    PackedSequence, gives a packed output of its class.

    `backward(dy, (dh, dc))` gives `(dinput, (dh0, dc0))`; each gradient that is left out or None counts as zeros.

    Args:
        input_size: I.
        hidden_size: H.
        num_layers: L, each on the output of the one below.
        bias: whether the two biases of each layer are there.
        batch_first: whether N comes before T in input and output; never in states.
        dropout: in training, the probability with which an output of each layer but the last is set to zero.
        bidirectional: whether each layer also runs from the last step to the first (D = 2).
        proj_size: P, if it is above 0: h is projected to so many numbers.
        generator: where the initial weights are drawn from.
        implementation: "vectorized", or "loops", cell by cell and number by number, for reading.

    Raises:
        ValueError: for arguments that make no sense.
        ShapeError: from `forward`, if the input, a state or the lengths do not fit.
        TypeError: from `forward`, if `hx` is no pair, or the input neither a tensor nor packed.
    """

    gates = 4
    state_names = ("hx[0]", "hx[1]")
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
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(
            *(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size),
            *(device, dtype, generator, implementation),
        )

    def forward(
        self, input: Any, hx: tuple[Tensor, Tensor] | None = None, *, lengths: Any = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """input, (h_0, c_0) -> output, (h_n, c_n).

        Args:
            hx: the states before the first step; zeros by default.
            lengths: of the sequences of a padded input, (N,) whole numbers from 0 to T. Output and gradients of what
                comes after are 0, the last states are those after the last step of each sequence, and its second
                direction starts there. A length of 0 leaves the states as they were.
        """
        output, (h, c) = self._forward(input, pair_of_states(self, "hx", hx), lengths)
        return output, (h, c)

    def backward(self, dy: Any, dlast: Pair | None = None, *, input_gradient: bool = True) -> tuple[Any, Pair]:
        """dy in the form of the output, (dh, dc) in that of the last states -> (dinput, (dh0, dc0))."""
        dx, (dh, dc) = self._backward(dy, pair_of_states(self, "dlast", dlast), input_gradient)
        return dx, (dh, dc)

    def _one_forward(
        self, x: Tensor, states: list[Tensor], weights: dict[str, Tensor | None], sizes: tuple[int, ...], reverse: bool
    ) -> tuple[Tensor, list[Tensor], tuple[Tensor, ...]]:
        forward, _ = self.implementations[self.implementation]
        y, h, c, gates, cells = forward(x, *states, *weights.values(), sizes, reverse)
        return y, [h, c], (x, *states, y, gates, cells)

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
        of_weights = (weights["weight_ih"], weights["weight_hh"], weights["weight_hr"])
        dx, dh, dc, dweight_ih, dweight_hh, dbias, dweight_hr = backward(
            dy, *dstates, *kept, *of_weights, sizes, reverse, needs=needs
        )
        named = {"weight_ih": dweight_ih, "weight_hh": dweight_hh, "weight_hr": dweight_hr}
        return dx, [dh, dc], named | self._bias_gradients(dbias)
