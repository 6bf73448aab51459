"""A GRU over all steps of its sequences, there and back. Theory: docs/gru_through_time.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ds_core import fast_form, linear, plain_form
from ds_core.speed.precision import wide_dtype, without_autocast
from torch import Tensor

from ds_rnn.recurrent.gru_cell import gru_step, gru_step_gradients, plain_gru_cell, plain_gru_cell_backward
from ds_rnn.recurrent.walk import StepByStep, moved_on, states_before, walk

# N = sequences, R = rows, one for each step of each sequence (walk.py), I = input_size, H = hidden_size.
# One layer, one direction.

Gradients = tuple[Tensor | None, ...]


def plain_gru_through_time(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (R, I), h0 (N, H), weights -> y (R, H), h_n (N, H), gates (R, 3H), q (R, H)."""
    ys, gates, qs = StepByStep.parts(h0), StepByStep.parts(weight_ih.t()), StepByStep.parts(h0)
    h = h0
    for rows, count in walk(batch_sizes, reverse):
        # h_t = cell(x_t, h_(t-1)) for the sequences that have a step t                                     (1)
        h_t, gates_t, q_t = plain_gru_cell(x[rows], h[:count], weight_ih, weight_hh, bias_ih, bias_hh)
        for kept, part in ((ys, h_t), (gates, gates_t), (qs, q_t)):
            kept.put(rows, part)
        h = moved_on(h, h_t)
    return ys.whole(), h, gates.whole(), qs.whole()


def plain_gru_through_time_backward(
    dy: Tensor,
    dh_n: Tensor,
    x: Tensor,
    h0: Tensor,
    y: Tensor,
    gates: Tensor,
    q: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, ...]:
    """dy (R, H), dh_n (N, H) and what forward took and gave -> dx, dh0, dweight_ih, dweight_hh, dbias_ih, dbias_hh."""
    dxs, dh = StepByStep.parts(x), dh_n
    dbiases = [weight_hh.new_zeros(weight_hh.shape[0]) for _ in range(2)]
    sums = [torch.zeros_like(weight_ih), torch.zeros_like(weight_hh), *dbiases]
    before = states_before(y, h0, batch_sizes, reverse)
    for rows, count in walk(batch_sizes, not reverse):
        dh_t = dy[rows] + dh[:count]  # from the output at t and from the step after                       (2)
        dx_t, dh_t, *parts = plain_gru_cell_backward(
            dh_t, x[rows], before[rows], gates[rows], q[rows], weight_ih, weight_hh
        )
        for total, part in zip(sums, parts, strict=True):
            total += part  # each step adds to the gradients of the weights                                 (3)
        dxs.put(rows, dx_t)
        dh = moved_on(dh, dh_t)
    return dxs.whole(), dh, *sums


# What needs no state is one product for all steps: of the inputs before them, of the gradients after them.
@fast_form(plain_gru_through_time)
@without_autocast
def gru_through_time(
    x: Tensor,
    h0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (R, I), h0 (N, H), weights -> y (R, H), h_n (N, H), gates (R, 3H), q (R, H)."""
    inputs = linear(x, weight_ih, bias_ih)
    in_place = inputs.dtype == wide_dtype(inputs)
    gates = StepByStep(inputs, in_place)  # written over the inputs that they were made of
    ys, qs = (StepByStep(inputs.new_empty(len(x), h0.shape[1]), in_place) for _ in range(2))
    h = h0
    for rows, count in walk(batch_sizes, reverse):
        h_t, gates_t, q_t = gru_step(inputs[rows], h[:count], weight_hh, bias_hh, ys.out(rows))
        for kept, part in ((ys, h_t), (gates, gates_t), (qs, q_t)):
            kept.put(rows, part)
        h = moved_on(h, h_t)
    return ys.whole(), h, gates.whole(), qs.whole()


@fast_form(plain_gru_through_time_backward)
@without_autocast
def gru_through_time_backward(
    dy: Tensor,
    dh_n: Tensor,
    x: Tensor,
    h0: Tensor,
    y: Tensor,
    gates: Tensor,
    q: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    batch_sizes: Sequence[int],
    reverse: bool,
    needs: tuple[bool, bool, bool, bool, bool, bool] = (True,) * 6,
) -> Gradients:
    """dy (R, H), dh_n (N, H) and what forward took and gave -> dx, dh0, dweight_ih, dweight_hh, dbias_ih, dbias_hh."""
    before = states_before(y, h0, batch_sizes, reverse)
    in_place = gates.dtype == wide_dtype(gates)
    dus, dvs = (StepByStep(torch.empty_like(gates), in_place) for _ in range(2))
    dh = dh_n
    for rows, count in walk(batch_sizes, not reverse):
        dh_t = torch.add(dy[rows], dh[:count])  # from the output at t and from the step after             (2)
        out = (dus.out(rows), dvs.out(rows))
        du, dv, dkept = gru_step_gradients(dh_t, before[rows], gates[rows], q[rows], out)
        dus.put(rows, du)
        dvs.put(rows, dv)
        dh = moved_on(dh, torch.addmm(dkept, dv, weight_hh))
    du, dv = dus.whole(), dvs.whole()
    dx = torch.mm(du, weight_ih) if needs[0] else None
    # sums over the steps as products over the rows of all of them                                          (3)
    dweight_ih = torch.mm(du.t(), x) if needs[2] else None
    dweight_hh = torch.mm(dv.t(), before) if needs[3] else None
    dbias_ih = du.sum(0) if needs[4] else None
    dbias_hh = dv.sum(0) if needs[5] else None
    return dx, dh if needs[1] else None, dweight_ih, dweight_hh, dbias_ih, dbias_hh


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (gru_through_time, gru_through_time_backward),
    "loops": (plain_gru_through_time, plain_form(gru_through_time_backward)),
}
