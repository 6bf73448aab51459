"""Decoders with attention, after their step (Luong) or before it (Bahdanau). Theory: docs/decoders.md."""

from typing import Any, NamedTuple

import torch
from ds_core import Dropout, Linear, Module, ShapeError
from ds_core.activations.tanh import tanh, tanh_backward
from ds_core.engine.composition import merge_gradients
from torch import Tensor

from ds_rnn.attention.attention import AdditiveAttention, Attention, MultiplicativeAttention
from ds_rnn.recurrent.gru import GRU
from ds_rnn.recurrent.gru_cell import GRUCell
from ds_rnn.recurrent.lstm import LSTM
from ds_rnn.recurrent.lstm_cell import LSTMCell

# B = sequences, T = steps of the decoder, S = positions of the memory, E = embed_dim, H = hidden_size,
# M = memory_size, L = num_layers

LAYERS: dict[str, Any] = {"lstm": LSTM, "gru": GRU}
CELLS: dict[str, Any] = {"lstm": LSTMCell, "gru": GRUCell}

State = tuple[Tensor, ...]  # (L, B, H), one tensor or two


class Memory(NamedTuple):
    """What a decoder looks at: the encoder's outputs (B, S, M), their keys, and where the source is padding (B, S)."""

    values: Tensor
    keys: Tensor | None
    padding: Tensor | None


class MemoryGradient(NamedTuple):
    """The gradients of a memory; None means zeros."""

    values: Tensor | None
    keys: Tensor | None


class Readout(Module):
    """o_t = tanh(W [c_t; s_t]) of context and state, or tanh(W s_t) without attention (Luong et al., equation 5)."""

    def __init__(self, inputs: int, outputs: int, dropout: float, **made: Any) -> None:
        self.mixed = Linear(inputs, outputs, bias=False, **made)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, contexts: Tensor | None) -> Tensor:
        """states (B, T, H), contexts (B, T, M) -> (B, T, E)."""
        both = states if contexts is None else torch.cat([contexts, states], 2)
        y = tanh(self.mixed.forward(both))  # o = tanh(W [c; s])                                            (1)
        self.save(y, 0 if contexts is None else contexts.shape[2])
        return self.dropout.forward(y)

    def backward(self, dy: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """dy (B, T, E) -> dstates, dcontexts."""
        dy = self.dropout.backward(dy)
        y, width = self.saved()
        # [dc; ds] = W^T da,  da = do (1 - o^2)                                                             (2)
        dboth = self.mixed.backward(None if dy is None else tanh_backward(dy, y))
        if dboth is None or width == 0:
            return dboth, None
        return dboth[:, :, width:], dboth[:, :, :width]


def _chosen(table: dict[str, Any], cell: str) -> Any:
    if cell not in table:
        raise ValueError(f"decoder: given cell={cell!r}, expected one of {sorted(table)}")
    return table[cell]


def _keys(memory: Memory) -> Tensor:
    if memory.keys is None:
        raise ValueError("decoder: given a memory without keys, expected those of attention.keys.forward(values)")
    return memory.keys


class LuongDecoder(Module):
    """Recurrent layers over all steps at once; then every state looks at the memory. Without attention, it does not.

    `forward(x, state, memory)` takes (B, T, E), the state before the first step and the memory, and gives the readouts
    (B, T, E) and the last state. `backward(dy)` gives (dx, dstate, the gradients of the memory); the last state is for
    decoding alone and has no gradient.

    Args:
        embed_dim: E.
        hidden_size: H.
        memory_size: M.
        num_layers: L.
        cell: "lstm" or "gru".
        dropout: between layers, and of the readouts.
        attend: whether the states look at the memory; without it, `attention` is None.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: for another cell, or impossible sizes; from `forward`, if it attends and the memory has no keys.
        ShapeError: from `forward`, if a shape does not fit.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_size: int,
        memory_size: int,
        num_layers: int,
        cell: str,
        dropout: float,
        *,
        attend: bool = True,
        **made: Any,
    ) -> None:
        self.layers = _chosen(LAYERS, cell)(
            embed_dim, hidden_size, num_layers, batch_first=True, dropout=dropout, **made
        )
        self.attention: Attention | None = MultiplicativeAttention(hidden_size, memory_size, **made) if attend else None
        self.readout = Readout(hidden_size + (memory_size if attend else 0), embed_dim, dropout, **made)

    def forward(self, x: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        # s_t = f(x_t, s_t-1), then c_t = read(s_t)                                                         (3)
        states, last = self.layers.forward(x, state if len(state) > 1 else state[0])
        contexts = None
        if self.attention is not None:
            contexts = self.attention.forward(states, _keys(memory), memory.values, memory.padding)
        return self.readout.forward(states, contexts), last if isinstance(last, tuple) else (last,)

    def backward(self, dy: Tensor | None) -> tuple[Tensor | None, tuple[Tensor | None, ...], MemoryGradient]:
        dstates, dcontexts = self.readout.backward(dy)
        dmemory = MemoryGradient(None, None)
        if self.attention is not None:
            dquery, dkeys, dvalues = self.attention.backward(dcontexts)
            dmemory = MemoryGradient(dvalues, dkeys)
            # ds_t of the readout and of the query                                                          (4)
            dstates = dstates if dquery is None or dstates is None else dstates + dquery
        dx, dfirst = self.layers.backward(dstates)
        return dx, dfirst if isinstance(dfirst, tuple) else (dfirst,), dmemory


class BahdanauDecoder(Module):
    """At every step the state looks at the memory first, and what it reads goes into the step.

    Arguments (but `attend`), inputs, outputs and gradients are those of `LuongDecoder`. Its steps are one after the
    other, because each one asks the memory with the state that the step before left.
    """

    def __init__(
        self,
        embed_dim: int,
        hidden_size: int,
        memory_size: int,
        num_layers: int,
        cell: str,
        dropout: float,
        **made: Any,
    ) -> None:
        inputs = [embed_dim + memory_size, *[hidden_size] * (num_layers - 1)]
        self.cells = [_chosen(CELLS, cell)(size, hidden_size, **made) for size in inputs]
        self.between = Dropout(dropout)
        self.attention = AdditiveAttention(hidden_size, memory_size, hidden_size, **made)
        self.readout = Readout(hidden_size + memory_size, embed_dim, dropout, **made)

    def forward(self, x: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        shapes, expected = [tuple(kind.shape) for kind in state], (len(self.cells), len(x), self.attention.query_size)
        if x.dim() != 3 or x.shape[1] == 0 or any(shape != expected for shape in shapes):
            raise ShapeError(
                f"BahdanauDecoder: given x {tuple(x.shape)} and a state of {shapes}, expected (B, T, E) with at least "
                f"one step, and ({len(self.cells)}, B, {self.attention.query_size})"
            )
        layers = [tuple(kind[layer] for kind in state) for layer in range(len(self.cells))]
        states, contexts = [], []
        for x_t in x.unbind(1):
            # c_t = read(s_t-1), then s_t = f([x_t; c_t], s_t-1)                                            (5)
            query = layers[-1][0][:, None]
            context = self.attention.forward(query, _keys(memory), memory.values, memory.padding)  # (B, 1, M)
            below = torch.cat([x_t, context[:, 0]], 1)
            for layer, cell in enumerate(self.cells):
                below = self.between.forward(below) if layer > 0 else below
                made = cell.forward(below, layers[layer] if len(state) > 1 else layers[layer][0])
                layers[layer] = made if isinstance(made, tuple) else (made,)
                below = layers[layer][0]
            states.append(below)
            contexts.append(context)
        readouts = self.readout.forward(torch.stack(states, 1), torch.cat(contexts, 1))
        self.save(x.shape[1], state)
        return readouts, tuple(torch.stack(list(kind)) for kind in zip(*layers, strict=True))

    def backward(self, dy: Tensor | None) -> tuple[Tensor | None, tuple[Tensor | None, ...], MemoryGradient]:
        steps, state = self.saved()
        dstates, dcontexts = self.readout.backward(dy)
        if dstates is None or dcontexts is None:
            for _ in range(steps):
                for layer in reversed(range(len(self.cells))):
                    self.cells[layer].backward(None)
                    if layer > 0:
                        self.between.backward(None)
                self.attention.backward(None)
            return None, (None,) * len(state), MemoryGradient(None, None)
        dlayers: list[tuple[Tensor, ...]] = [
            tuple(torch.zeros_like(kind[layer]) for kind in state) for layer in range(len(self.cells))
        ]
        dxs, total = [], MemoryGradient(None, None)
        for t in reversed(range(steps)):
            dbelow: Any = dstates[:, t]
            for layer in reversed(range(len(self.cells))):
                dh, *dc = dlayers[layer]
                # ds_t = of the readout + of step t + 1 + of the query of step t + 1                        (6)
                dbelow, dbefore = self.cells[layer].backward(dh + dbelow, *dc)
                dbelow = self.between.backward(dbelow) if layer > 0 else dbelow
                dlayers[layer] = dbefore if isinstance(dbefore, tuple) else (dbefore,)
            width = dbelow.shape[1] - dcontexts.shape[2]
            # dc_t = of the readout + of step t                                                             (7)
            dcontext = dcontexts[:, t : t + 1] + dbelow[:, None, width:]
            dquery, dkeys, dvalues = self.attention.backward(dcontext)
            total = MemoryGradient(merge_gradients(total.values, dvalues), merge_gradients(total.keys, dkeys))
            if dquery is not None:
                dlayers[-1] = (dlayers[-1][0] + dquery[:, 0], *dlayers[-1][1:])
            dxs.append(dbelow[:, :width])
        dfirst = tuple(torch.stack(list(kind)) for kind in zip(*dlayers, strict=True))
        return torch.stack(dxs[::-1], 1), dfirst, total
