"""How much of a gradient is left, step by step back in time. Theory: docs/gradient_norms.md."""

from collections.abc import Iterable
from typing import Any

import torch
from ds_core import ShapeError, record
from ds_core.engine.parameter import frozen
from torch import Tensor

# N = sequences, T = steps, I = input_size, H = hidden_size, K = kinds of states: 1, or 2 for an LSTM


def gradient_norms(cell: Any, input: Tensor, dlast: Tensor | None = None) -> Tensor:
    """input (T, N, I) -> norms (K, T + 1), float64, of the gradients of the states, the first one before step 0.

    A gradient of the last h, and of no other number, goes back through all steps. Where its norm vanishes, what a step
    did to the end cannot be learned; where it grows, one step can throw the weights anywhere. The norm is the mean over
    the sequences. Parameters get no gradient from this.

    Args:
        cell: a `RecurrentCell`, such as `LSTMCell`.
        dlast: the gradient of the last h (N, H); by default random, of norm 1 for each sequence.

    Raises:
        ShapeError: the input has no step, or does not fit the cell.
    """
    if input.dim() != 3 or len(input) == 0:
        raise ShapeError(f"gradient_norms: given input of shape {tuple(input.shape)}, expected (T, N, I) with T > 0")
    with frozen(cell.parameters()), record():
        state = cell.initial_state(input[0])
        for x in input:
            state = cell(x, state)
        return _norms_back(cell, len(input), state, dlast)


def _norms_back(cell: Any, steps: int, state: Any, dlast: Tensor | None) -> Tensor:
    last = state if isinstance(state, tuple) else (state,)
    if dlast is None:
        dlast = torch.randn_like(last[0])
        dlast = dlast / dlast.square().sum(1, keepdim=True).sqrt()
    dstates: tuple[Tensor, ...] = (dlast, *(torch.zeros_like(tensor) for tensor in last[1:]))
    norms = [mean_norms(dstates)]
    for _ in range(steps):
        _, before = cell.backward(*dstates, input_gradient=False)
        dstates = before if isinstance(before, tuple) else (before,)
        norms.append(mean_norms(dstates))  # |dh_t| and |dc_t|                                              (1)
    return torch.stack(norms[::-1], 1)


def mean_norms(dstates: Iterable[Tensor]) -> Tensor:
    """K gradients of states (..., N, H) -> (K, ...), float64: the mean over the sequences of the norm of each.

    In float64, because the square of a gradient that has nearly vanished is 0 in float32.
    """
    return torch.stack([dstate.double().square().sum(-1).sqrt().mean(-1) for dstate in dstates])
