"""One step of an LSTM: what to forget, what to take in, what to show. Theory: docs/lstm_cell.md."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from ds_core import fast_form, plain_form, reuse
from ds_core.activations.sigmoid import logistic, sigmoid
from ds_core.activations.tanh import tanh
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.precision import widened, without_autocast
from torch import Tensor

from ds_rnn.recurrent.cell import Cell, fast_tanh, input_part, pair_of_states

# N = batch, I = input_size, H = hidden_size. The four gates lie side by side, as in torch.nn: i, f, g, o.

Gradients = tuple[Tensor | None, ...]


def plain_lstm_cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, I), h, c (N, H), weight_ih (4H, I), weight_hh (4H, H), biases (4H,) -> h', c' (N, H), gates (N, 4H)."""
    hidden = c.shape[1]
    h_next, c_next, gates = torch.zeros_like(c), torch.zeros_like(c), c.new_zeros(c.shape[0], 4 * hidden)
    for n in range(c.shape[0]):
        for j in range(hidden):
            a = []
            for k in range(j, 4 * hidden, hidden):  # the rows of i, f, g and o
                # a_k = sum_i x_i W_ih,ki + sum_j h_j W_hh,kj + b_ih,k + b_hh,k                             (1)
                a.append((x[n] * weight_ih[k]).sum() + (h[n] * weight_hh[k]).sum())
                if bias_ih is not None and bias_hh is not None:
                    a[-1] = a[-1] + bias_ih[k] + bias_hh[k]
            i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), tanh(a[2]), sigmoid(a[3])  #                         (2)
            cell = f * c[n, j] + i * g  # c' = f c + i g                                                  (3)
            h_next[n, j] = o * tanh(cell)  # h' = o tanh(c')                                              (4)
            c_next[n, j] = cell
            gates[n, j::hidden] = torch.stack([i, f, g, o])
    return h_next, c_next, gates


def plain_lstm_cell_backward(
    dh_next: Tensor,
    dc_next: Tensor,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    c_next: Tensor,
    gates: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dh', dc' (N, H) and what forward took and gave -> dx, dh, dc, dweight_ih, dweight_hh, dbias (4H,)."""
    hidden = c.shape[1]
    dx, dh, dc, dbias = torch.zeros_like(x), torch.zeros_like(h), torch.zeros_like(c), weight_hh.new_zeros(4 * hidden)
    dweight_ih, dweight_hh = torch.zeros_like(weight_ih), torch.zeros_like(weight_hh)
    for n in range(c.shape[0]):
        for j in range(hidden):
            i, f, g, o = gates[n, j::hidden]
            t = tanh(c_next[n, j])
            dcell = dc_next[n, j] + dh_next[n, j] * o * (1 - t * t)  # dc' += dh' o (1 - tanh(c')^2)      (5)
            dc[n, j] = dcell * f  # dc = dc' f                                                            (6)
            da = (
                dcell * g * i * (1 - i),  # da_i = dc' g i (1 - i)                                        (7)
                dcell * c[n, j] * f * (1 - f),  # da_f = dc' c f (1 - f)                                  (8)
                dcell * i * (1 - g * g),  # da_g = dc' i (1 - g^2)                                        (9)
                dh_next[n, j] * t * o * (1 - o),  # da_o = dh' tanh(c') o (1 - o)                        (10)
            )
            for k, dak in zip(range(j, 4 * hidden, hidden), da, strict=True):
                dx[n] += dak * weight_ih[k]  # dx = da W_ih                                              (11)
                dh[n] += dak * weight_hh[k]  # dh = da W_hh                                              (12)
                dweight_ih[k] += dak * x[n]  # dW_ih = da^T x                                            (13)
                dweight_hh[k] += dak * h[n]  # dW_hh = da^T h                                            (14)
                dbias[k] += dak  # db = sum_n da_n                                                       (15)
    return dx, dh, dc, dweight_ih, dweight_hh, dbias


# All numbers at once. One logistic serves the four gates, because tanh(a) = 2 s(2a) - 1.
@fast_form(plain_lstm_cell)
@without_autocast
def lstm_cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, I), h, c (N, H), weight_ih (4H, I), weight_hh (4H, H), biases (4H,) -> h', c' (N, H), gates (N, 4H)."""
    return lstm_step(input_part(x, weight_ih, bias_ih, bias_hh), h, c, weight_hh)


@fast_form(plain_lstm_cell_backward)
@without_autocast
def lstm_cell_backward(
    dh_next: Tensor,
    dc_next: Tensor,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    c_next: Tensor,
    gates: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    needs: tuple[bool, bool, bool, bool, bool, bool] = (True,) * 6,
) -> Gradients:
    """dh', dc' (N, H) and what forward took and gave -> dx, dh, dc, dweight_ih, dweight_hh, dbias (4H,)."""
    da, dc = lstm_step_gradients(dh_next, dc_next, c, c_next, gates)
    dx = torch.mm(da, weight_ih) if needs[0] else None  # dx = da W_ih                                   (11)
    dh = torch.mm(da, weight_hh) if needs[1] else None  # dh = da W_hh                                   (12)
    dweight_ih = torch.mm(da.t(), x) if needs[3] else None  # dW_ih = da^T x                             (13)
    dweight_hh = torch.mm(da.t(), h) if needs[4] else None  # dW_hh = da^T h                             (14)
    dbias = da.sum(0) if needs[5] else None  # db = sum_n da_n                                           (15)
    return dx, dh, dc if needs[2] else None, dweight_ih, dweight_hh, dbias


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (lstm_cell, lstm_cell_backward),
    "loops": (plain_lstm_cell, plain_form(lstm_cell_backward)),
}


def lstm_step(
    inputs: Tensor, h: Tensor, c: Tensor, weight_hh: Tensor, out: tuple[Tensor | None, ...] = (None, None)
) -> tuple[Tensor, Tensor, Tensor]:
    """inputs (N, 4H) of `input_part`, h, c (N, H) -> h', c' (N, H), gates (N, 4H).

    The inputs are used up: the gates may be in their memory. `out` is where to write h' and c'.
    """
    # `logistic` takes -a log2(e), and the product brings the factor along                                (1)
    t = torch.addmm(inputs, h, weight_hh.t(), beta=-LOG2_E, alpha=-LOG2_E, out=reuse(inputs))
    t = widened(t)
    _of_g(t).mul_(2)
    wide = _with_tanh(logistic(t))
    i, f, g, o = wide.chunk(4, 1)
    c_next = torch.addcmul(f * c, i, g, out=out[1])  # c' = f c + i g                                     (3)
    h_next = torch.mul(o, fast_tanh(c_next), out=out[0])  # h' = o tanh(c')                            (4)
    return h_next.to(h.dtype), c_next.to(h.dtype), wide.to(h.dtype)


def lstm_step_gradients(
    dh_next: Tensor, dc_next: Tensor, c: Tensor, c_next: Tensor, gates: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """dh', dc', c, c' (N, H), gates (N, 4H) -> da (N, 4H), in `out` if that is given, and dc (N, H)."""
    wide, dh = widened(gates), widened(dh_next)
    i, f, g, o = wide.chunk(4, 1)
    t = fast_tanh(widened(c_next))
    shown = dh * o
    dcell = torch.addcmul(dc_next + shown, shown * t, t, value=-1)  # dc' += dh' o (1 - tanh(c')^2)       (5)
    slope = torch.addcmul(wide, wide, wide, value=-1)  # of the logistic, s (1 - s)
    _of_g(slope).copy_(1 - g * g)  # of tanh
    factors = ((dcell, g), (dcell, c), (dcell, i), (dh, t))
    if out is None:
        out = torch.cat([one * other for one, other in factors], 1)
    else:  # each product goes where it belongs, once
        for (one, other), part in zip(factors, out.chunk(4, 1), strict=True):
            torch.mul(one, other, out=part)
    da = torch.mul(out, slope, out=reuse(out))  # da_i = dc' g i (1 - i), and so on                (7) to (10)
    return da.to(gates.dtype), (dcell * f).to(gates.dtype)  # dc = dc' f                                  (6)


def _with_tanh(s: Tensor) -> Tensor:
    """The logistic of a_i, a_f, 2 a_g and a_o -> the gates, in the same memory if it may be reused."""
    if reuse(s) is None:
        i, f, of_g, o = s.chunk(4, 1)
        return torch.cat([i, f, 2 * of_g - 1, o], 1)  # tanh(a) = 2 s(2a) - 1
    _of_g(s).mul_(2).sub_(1)
    return s


def _of_g(t: Tensor) -> Tensor:
    """Of numbers (N, 4H) of the four gates those of g, (N, H): a view that autograd lets one write to."""
    return t.view(len(t), 4, t.shape[1] // 4)[:, 2]


class LSTMCell(Cell):
    """One step of an LSTM (Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; the forget gate is by Gers et
    al., "Learning to Forget", 2000).

    Twin of torch.nn.LSTMCell: same arguments, same names and shapes of parameters (`weight_ih` (4H, I), `weight_hh`
    (4H, H), `bias_ih` and `bias_hh` (4H,), the gates i, f, g, o one below the other), same initialisation.

    `forward(input, (h, c))` takes (N, I) and twice (N, H), or (I,) and (H,), and gives (h', c'); without states they
    are zeros. `backward(dh, dc)` gives (dinput, (dh, dc)). With `input_gradient=False` dinput is None.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the two biases are there.
        generator: where the initial weights are drawn from.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        ValueError: for impossible sizes or another implementation.
        ShapeError: from `forward`, if the input or a state does not fit the cell, or they do not fit each other.
        TypeError: from `forward`, if `hx` is no pair.
    """

    gates = 4
    state_names = ("hx[0]", "hx[1]")
    implementations = IMPLEMENTATIONS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype, generator, implementation)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """input (N, I) or (I,), hx a pair of (N, H) or (H,) -> (h', c'), shaped as hx."""
        x, (h, c), form = self._batch(input, *pair_of_states(self, "hx", hx))
        forward, _ = self.implementations[self.implementation]
        h_next, c_next, gates = forward(x, h, c, *self._weights())
        self.save(x, h, c, c_next, gates, form)
        return (h_next, c_next) if form.batched else (h_next[0], c_next[0])

    def backward(
        self, dh: Tensor | None, dc: Tensor | None = None, *, input_gradient: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor | None, Tensor | None]]:
        """dh', dc' shaped as the states -> (dinput, (dh, dc)); adds to the gradients of the parameters."""
        x, h, c, c_next, gates, form = self.saved()
        if dh is None and dc is None:
            return None, (None, None)
        wanted = [torch.zeros_like(c) if d is None else d.reshape(c.shape) for d in (dh, dc)]
        _, backward = self.implementations[self.implementation]
        needs = self._needs(input_gradient, 2)
        found = backward(*wanted, x, h, c, c_next, gates, self.weight_ih, self.weight_hh, needs=needs)
        dx, dh_before, dc_before, dweight_ih, dweight_hh, dbias = found
        self._accumulate(dweight_ih, dweight_hh, dbias)
        dx, dh_before, dc_before = self._as_given(form, dx, dh_before, dc_before)
        return dx, (dh_before, dc_before)
