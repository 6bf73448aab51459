"""An LSTM over all steps of its sequences, there and back. Theory: docs/lstm_through_time.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ds_core import fast_form, plain_form
from ds_core.activations.tanh import tanh
from ds_core.speed.precision import wide_dtype, without_autocast
from torch import Tensor

from ds_rnn.recurrent.cell import fast_tanh, input_part
from ds_rnn.recurrent.lstm_cell import (
    lstm_step,
    lstm_step_gradients,
    plain_lstm_cell,
    plain_lstm_cell_backward,
)
from ds_rnn.recurrent.walk import StepByStep, moved_on, states_before, walk

# N = sequences, R = rows, one for each step of each sequence (walk.py), I = input_size, H = hidden_size,
# P = proj_size, or H without projection. One layer, one direction.

Gradients = tuple[Tensor | None, ...]


def plain_lstm_through_time(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x (R, I), h0 (N, P), c0 (N, H), weights -> y (R, P), h_n (N, P), c_n (N, H), gates (R, 4H), cells (R, H)."""
    h, c = h0, c0
    ys, cells, gates = StepByStep.parts(h0), StepByStep.parts(c0), StepByStep.parts(weight_ih.t())
    for rows, count in walk(batch_sizes, reverse):
        # h_t, c_t = cell(x_t, h_(t-1), c_(t-1)) for the sequences that have a step t                       (1)
        h_t, c_t, gates_t = plain_lstm_cell(x[rows], h[:count], c[:count], weight_ih, weight_hh, bias_ih, bias_hh)
        if weight_hr is not None:
            h_t = plain_projection(h_t, weight_hr)  # h_t = m_t W_hr^T                                      (2)
        for kept, part in ((ys, h_t), (cells, c_t), (gates, gates_t)):
            kept.put(rows, part)
        h, c = moved_on(h, h_t), moved_on(c, c_t)
    return ys.whole(), h, c, gates.whole(), cells.whole()


def plain_lstm_through_time_backward(
    dy: Tensor,
    dh_n: Tensor,
    dc_n: Tensor,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    y: Tensor,
    gates: Tensor,
    cells: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor | None, ...]:
    """dy (R, P), dh_n (N, P), dc_n (N, H) and what forward took and gave -> dx, dh0, dc0 and those of the weights.

    These are dweight_ih, dweight_hh, dbias (4H,), for either bias, and dweight_hr or None.
    """
    dxs = StepByStep.parts(x)
    sums = [torch.zeros_like(weight_ih), torch.zeros_like(weight_hh), gates.new_zeros(gates.shape[1])]
    dweight_hr = None if weight_hr is None else torch.zeros_like(weight_hr)
    h_before = states_before(y, h0, batch_sizes, reverse)
    c_before = states_before(cells, c0, batch_sizes, reverse)
    dh, dc = dh_n, dc_n
    for rows, count in walk(batch_sizes, not reverse):
        dh_t = dy[rows] + dh[:count]  # from the output at t and from the step after                       (3)
        if weight_hr is not None and dweight_hr is not None:
            shown = gates[rows, 3 * c0.shape[1] :] * tanh(cells[rows])  # m_t = o_t tanh(c_t)
            dh_t, part = plain_projection_backward(dh_t, shown, weight_hr)
            dweight_hr += part
        dx_t, dh_t, dc_t, *parts = plain_lstm_cell_backward(
            dh_t, dc[:count], x[rows], h_before[rows], c_before[rows], cells[rows], gates[rows], weight_ih, weight_hh
        )
        for total, part in zip(sums, parts, strict=True):
            total += part  # each step adds to the gradients of the weights                                 (5)
        dxs.put(rows, dx_t)
        dh, dc = moved_on(dh, dh_t), moved_on(dc, dc_t)
    return dxs.whole(), dh, dc, *sums, dweight_hr


def plain_projection(shown: Tensor, weight_hr: Tensor) -> Tensor:
    """shown (N, H), weight_hr (P, H) -> h (N, P)."""
    h = shown.new_zeros(shown.shape[0], weight_hr.shape[0])
    for n in range(shown.shape[0]):
        for p in range(weight_hr.shape[0]):
            h[n, p] = (shown[n] * weight_hr[p]).sum()  # h_p = sum_j m_j W_hr,pj                            (2)
    return h


def plain_projection_backward(dh: Tensor, shown: Tensor, weight_hr: Tensor) -> tuple[Tensor, Tensor]:
    """dh (N, P), shown (N, H), weight_hr (P, H) -> dshown (N, H), dweight_hr (P, H)."""
    dshown, dweight = torch.zeros_like(shown), torch.zeros_like(weight_hr)
    for n in range(shown.shape[0]):
        for p in range(weight_hr.shape[0]):
            dshown[n] += dh[n, p] * weight_hr[p]  # dm = dh W_hr                                            (4)
            dweight[p] += dh[n, p] * shown[n]  # dW_hr = dh^T m                                             (5)
    return dshown, dweight


# The products of inputs and weights need no state, so they are one product for all steps; and so are the gradients of
# the weights and of the inputs, once the gradients of all gates are known.
@fast_form(plain_lstm_through_time)
@without_autocast
def lstm_through_time(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x (R, I), h0 (N, P), c0 (N, H), weights -> y (R, P), h_n (N, P), c_n (N, H), gates (R, 4H), cells (R, H)."""
    inputs = input_part(x, weight_ih, bias_ih, bias_hh)
    in_place = inputs.dtype == wide_dtype(inputs)
    gates = StepByStep(inputs, in_place)
    cells = StepByStep(inputs.new_empty(len(x), c0.shape[1]), in_place)
    ys = StepByStep(inputs.new_empty(len(x), h0.shape[1]), in_place and weight_hr is None)
    h, c = h0, c0
    for rows, count in walk(batch_sizes, reverse):
        out = (ys.out(rows), cells.out(rows))
        h_t, c_t, gates_t = lstm_step(inputs[rows], h[:count], c[:count], weight_hh, out)
        if weight_hr is not None:
            h_t = torch.mm(h_t, weight_hr.t())  # h_t = m_t W_hr^T                                          (2)
        for kept, part in ((ys, h_t), (cells, c_t), (gates, gates_t)):
            kept.put(rows, part)
        h, c = moved_on(h, h_t), moved_on(c, c_t)
    return ys.whole(), h, c, gates.whole(), cells.whole()


@fast_form(plain_lstm_through_time_backward)
@without_autocast
def lstm_through_time_backward(
    dy: Tensor,
    dh_n: Tensor,
    dc_n: Tensor,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    y: Tensor,
    gates: Tensor,
    cells: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    batch_sizes: Sequence[int],
    reverse: bool,
    needs: tuple[bool, ...] = (True,) * 7,
) -> Gradients:
    """dy (R, P), dh_n (N, P), dc_n (N, H) and what forward took and gave -> dx, dh0, dc0 and those of the weights."""
    hidden = c0.shape[1]
    c_before = states_before(cells, c0, batch_sizes, reverse)
    das = StepByStep(torch.empty_like(gates), gates.dtype == wide_dtype(gates))
    dhs = None if weight_hr is None else StepByStep(torch.empty_like(y))
    dh, dc = dh_n, dc_n
    for rows, count in walk(batch_sizes, not reverse):
        dh_t = torch.add(dy[rows], dh[:count])  # from the output at t and from the step after             (3)
        if weight_hr is not None and dhs is not None:
            dhs.put(rows, dh_t)
            dh_t = torch.mm(dh_t, weight_hr)  # dm = dh W_hr                                                (4)
        da, dc_t = lstm_step_gradients(dh_t, dc[:count], c_before[rows], cells[rows], gates[rows], das.out(rows))
        das.put(rows, da)
        dh, dc = moved_on(dh, torch.mm(da, weight_hh)), moved_on(dc, dc_t)
    da = das.whole()
    dx = torch.mm(da, weight_ih) if needs[0] else None
    # sums over the steps as products over the rows of all of them                                          (5)
    dweight_ih = torch.mm(da.t(), x) if needs[3] else None
    dweight_hh = torch.mm(da.t(), states_before(y, h0, batch_sizes, reverse)) if needs[4] else None
    dbias = da.sum(0) if needs[5] else None
    dweight_hr = None
    if dhs is not None and needs[6]:
        dweight_hr = torch.mm(dhs.whole().t(), gates[:, 3 * hidden :] * fast_tanh(cells))
    return dx, dh if needs[1] else None, dc if needs[2] else None, dweight_ih, dweight_hh, dbias, dweight_hr


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (lstm_through_time, lstm_through_time_backward),
    "loops": (plain_lstm_through_time, plain_form(lstm_through_time_backward)),
}
