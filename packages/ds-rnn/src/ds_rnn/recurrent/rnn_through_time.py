"""A recurrent network over all steps of its sequences, there and back. Theory: docs/rnn_through_time.md."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from ds_core import fast_form, plain_form
from ds_core.speed.precision import without_autocast
from torch import Tensor

from ds_rnn.recurrent.cell import input_part
from ds_rnn.recurrent.rnn_cell import plain_rnn_cell, plain_rnn_cell_backward, rnn_step, rnn_step_gradients
from ds_rnn.recurrent.walk import StepByStep, moved_on, states_before, walk

# N = sequences, R = rows, one for each step of each sequence (walk.py), I = input_size, H = hidden_size.
# One layer, one direction.

Gradients = tuple[Tensor | None, ...]


def plain_rnn_through_time(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    nonlinearity: Literal["tanh", "relu"],
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """x (R, I), h0 (N, H), weights -> y (R, H), h_n (N, H)."""
    ys, h = StepByStep.parts(h0), h0
    for rows, count in walk(batch_sizes, reverse):
        # h_t = cell(x_t, h_(t-1)) for the sequences that have a step t                                     (1)
        h_t = plain_rnn_cell(x[rows], h[:count], weight_ih, weight_hh, bias_ih, bias_hh, nonlinearity)
        ys.put(rows, h_t)
        h = moved_on(h, h_t)
    return ys.whole(), h


def plain_rnn_through_time_backward(
    dy: Tensor,
    dh_n: Tensor,
    x: Tensor,
    h0: Tensor,
    y: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    nonlinearity: Literal["tanh", "relu"],
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, ...]:
    """dy (R, H), dh_n (N, H) and what forward took and gave -> dx, dh0, dweight_ih, dweight_hh, dbias (H,)."""
    dxs, dh = StepByStep.parts(x), dh_n
    sums = [torch.zeros_like(weight_ih), torch.zeros_like(weight_hh), weight_hh.new_zeros(weight_hh.shape[0])]
    before = states_before(y, h0, batch_sizes, reverse)
    for rows, count in walk(batch_sizes, not reverse):
        dh_t = dy[rows] + dh[:count]  # from the output at t and from the step after                       (2)
        dx_t, dh_t, *parts = plain_rnn_cell_backward(
            dh_t, x[rows], before[rows], y[rows], weight_ih, weight_hh, nonlinearity
        )
        for total, part in zip(sums, parts, strict=True):
            total += part  # each step adds to the gradients of the weights                                 (3)
        dxs.put(rows, dx_t)
        dh = moved_on(dh, dh_t)
    return dxs.whole(), dh, *sums


# What needs no state is one product for all steps: of the inputs before them, of the gradients after them.
@fast_form(plain_rnn_through_time)
@without_autocast
def rnn_through_time(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    nonlinearity: Literal["tanh", "relu"],
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """x (R, I), h0 (N, H), weights -> y (R, H), h_n (N, H)."""
    inputs = input_part(x, weight_ih, bias_ih, bias_hh)
    ys, h = StepByStep(inputs), h0  # each state is written over the input that it was made of
    for rows, count in walk(batch_sizes, reverse):
        h_t = rnn_step(inputs[rows], h[:count], weight_hh, nonlinearity, ys.out(rows))
        ys.put(rows, h_t)
        h = moved_on(h, h_t)
    return ys.whole(), h


@fast_form(plain_rnn_through_time_backward)
@without_autocast
def rnn_through_time_backward(
    dy: Tensor,
    dh_n: Tensor,
    x: Tensor,
    h0: Tensor,
    y: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    nonlinearity: Literal["tanh", "relu"],
    batch_sizes: Sequence[int],
    reverse: bool,
    needs: tuple[bool, bool, bool, bool, bool] = (True,) * 5,
) -> Gradients:
    """dy (R, H), dh_n (N, H) and what forward took and gave -> dx, dh0, dweight_ih, dweight_hh, dbias (H,)."""
    das, dh = StepByStep(torch.empty_like(y)), dh_n
    for rows, count in walk(batch_sizes, not reverse):
        da = rnn_step_gradients(torch.add(dy[rows], dh[:count]), y[rows], nonlinearity)  #                  (2)
        das.put(rows, da)
        dh = moved_on(dh, torch.mm(da, weight_hh))
    da = das.whole()
    dx = torch.mm(da, weight_ih) if needs[0] else None
    # sums over the steps as products over the rows of all of them                                          (3)
    dweight_ih = torch.mm(da.t(), x) if needs[2] else None
    dweight_hh = torch.mm(da.t(), states_before(y, h0, batch_sizes, reverse)) if needs[3] else None
    return dx, dh if needs[1] else None, dweight_ih, dweight_hh, da.sum(0) if needs[4] else None


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (rnn_through_time, rnn_through_time_backward),
    "loops": (plain_rnn_through_time, plain_form(rnn_through_time_backward)),
}
