"""One label for a sequence, or one for each of its steps. Theory: docs/sequence_models.md."""

from typing import Any

import torch
from ds_core import Dropout, Linear, Module
from ds_core.engine.composition import require_layer
from torch import Tensor

from ds_rnn.recurrent.recurrent import Recurrent

# N = sequences, T = steps, I = input_size, L = layers, D = directions, P = numbers of a state that are shown,
# K = num_classes


class _SequenceModel(Module):
    """What both share: an embedding if there is one, recurrent layers, dropout, a linear layer."""

    def __init__(
        self,
        layers: Recurrent,
        num_classes: int,
        *,
        embedding: Any = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        name = type(self).__name__
        if not isinstance(layers, Recurrent):
            raise TypeError(f"{name}: given {type(layers).__name__} as layers, expected RNN, LSTM or GRU")
        self.embedding = None if embedding is None else require_layer(name, embedding)
        self.layers = layers
        self.dropout = Dropout(dropout)
        features = layers.directions * layers.shown_size
        self.head = Linear(features, num_classes, device=device, dtype=dtype, generator=generator)

    def _read(self, input: Tensor, lengths: Any) -> tuple[Tensor, Tensor]:
        """-> the output of the layers in the form of the input, and their last state h_n (L D, N, P)."""
        x = input if self.embedding is None else self.embedding.forward(input)
        y, last = self.layers.forward(x, lengths=lengths)
        return y, last[0] if isinstance(last, tuple) else last

    def _read_backward(self, dy: Tensor | None, dh: Tensor | None, input_gradient: bool) -> Tensor | None:
        is_pair = len(self.layers.state_names) > 1
        wanted = input_gradient or self.embedding is not None
        dx, _ = self.layers.backward(dy, (dh, None) if is_pair else dh, input_gradient=wanted)
        if self.embedding is None:
            return dx  # type: ignore[no-any-return]
        self.embedding.backward(dx)
        return None


class SequenceClassifier(_SequenceModel):
    """One label for each sequence: a linear layer on the last states of the top layer, in both directions if there are.

    Args:
        layers: an `RNN`, `LSTM` or `GRU`.
        num_classes: K.
        embedding: a layer that makes vectors of tokens; without one the input is vectors.
        dropout: the share dropped of what the linear layer sees.
        generator: where the initial weights of the linear layer are drawn from.

    Raises:
        TypeError: `layers` is something else.
    """

    def forward(self, input: Tensor, lengths: Any = None) -> Tensor:
        """input as `layers` take it, or whole numbers without the last dimension, -> logits (N, K).

        Args:
            lengths: of the sequences of a padded input, see `LSTM.forward`.
        """
        _, h = self._read(input, lengths)
        self.save(h)
        top = torch.cat([*h[-self.layers.directions :]], -1)  # (N, D P)                                     (1)
        return self.head.forward(self.dropout.forward(top))

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dlogits (N, K) -> dinput, None for tokens; adds to the gradients of the parameters."""
        dtop = self.dropout.backward(self.head.backward(dlogits))
        (h,) = self.saved()
        dh = None
        if dtop is not None:
            directions = self.layers.directions
            below = h.new_zeros(h.shape[0] - directions, *h.shape[1:])  # nobody reads the other layers' last states
            dh = torch.cat([below, torch.stack(dtop.chunk(directions, -1))])  #                              (2)
        return self._read_backward(None, dh, input_gradient)


class SequenceTagger(_SequenceModel):
    """One label for each step of each sequence: a linear layer on every output.

    Args:
        layers: an `RNN`, `LSTM` or `GRU`; with `bidirectional=True` a label knows what comes after, too.
        num_classes: K.
        embedding: a layer that makes vectors of tokens; without one the input is vectors.
        dropout: the share dropped of what the linear layer sees.
        generator: where the initial weights of the linear layer are drawn from.

    Raises:
        TypeError: `layers` is something else.
    """

    def forward(self, input: Tensor, lengths: Any = None) -> Tensor:
        """input as `layers` take it, or whole numbers without the last dimension, -> logits, K in place of I.

        What comes after the end of a sequence has the logits of the bias alone: leave it out of the loss.
        """
        y, _ = self._read(input, lengths)
        return self.head.forward(self.dropout.forward(y))  #                                                 (3)

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dlogits in the form of the logits -> dinput, None for tokens; adds to the gradients of the parameters."""
        dy = self.dropout.backward(self.head.backward(dlogits))
        return self._read_backward(dy, None, input_gradient)
