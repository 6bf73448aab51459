"""One step of a gated recurrent unit: how much of the state to replace, and by what. Theory: docs/gru_cell.md."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from ds_core import fast_form, linear, plain_form, reuse
from ds_core.activations.sigmoid import logistic, sigmoid
from ds_core.activations.tanh import tanh
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.precision import widened, without_autocast
from torch import Tensor

from ds_rnn.recurrent.cell import Cell, fast_tanh

# N = batch, I = input_size, H = hidden_size. The gates lie side by side, as in torch.nn: r (reset), z (update) and
# n (new).

Gradients = tuple[Tensor | None, ...]


def plain_gru_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, I), h (N, H), weight_ih (3H, I), weight_hh (3H, H), biases (3H,) -> h' (N, H), gates (N, 3H), q (N, H)."""
    hidden = h.shape[1]
    h_next, gates, q = torch.zeros_like(h), h.new_zeros(h.shape[0], 3 * hidden), torch.zeros_like(h)
    for n in range(h.shape[0]):
        for j in range(hidden):
            of_input, of_state = [], []
            for k in range(j, 3 * hidden, hidden):  # the rows of r, z and n
                # u_k = sum_i x_i W_ih,ki + b_ih,k,  v_k = sum_j h_j W_hh,kj + b_hh,k                       (1)
                of_input.append((x[n] * weight_ih[k]).sum() + (0 if bias_ih is None else bias_ih[k]))
                of_state.append((h[n] * weight_hh[k]).sum() + (0 if bias_hh is None else bias_hh[k]))
            r = sigmoid(of_input[0] + of_state[0])  # r = s(u_r + v_r)                                    (2)
            z = sigmoid(of_input[1] + of_state[1])  # z = s(u_z + v_z)                                    (3)
            new = tanh(of_input[2] + r * of_state[2])  # n = tanh(u_n + r q),  q = v_n                    (4)
            h_next[n, j] = (1 - z) * new + z * h[n, j]  # h' = (1 - z) n + z h                            (5)
            gates[n, j::hidden] = torch.stack([r, z, new])
            q[n, j] = of_state[2]
    return h_next, gates, q


def plain_gru_cell_backward(
    dh_next: Tensor,
    x: Tensor,
    h: Tensor,
    gates: Tensor,
    q: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dh' (N, H) and what forward took and gave -> dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh (3H,)."""
    hidden = h.shape[1]
    dx, dh, dweight_ih, dweight_hh = (torch.zeros_like(tensor) for tensor in (x, h, weight_ih, weight_hh))
    dbias_ih, dbias_hh = weight_hh.new_zeros(3 * hidden), weight_hh.new_zeros(3 * hidden)
    for n in range(h.shape[0]):
        for j in range(hidden):
            r, z, new = gates[n, j::hidden]
            dnew = dh_next[n, j] * (1 - z) * (1 - new * new)  # du_n = dh' (1 - z)(1 - n^2)               (6)
            dz = dh_next[n, j] * (h[n, j] - new) * z * (1 - z)  # du_z = dv_z = dh' (h - n) z (1 - z)     (7)
            dr = dnew * q[n, j] * r * (1 - r)  # du_r = dv_r = du_n q r (1 - r)                           (8)
            dq = dnew * r  # dv_n = du_n r                                                                (9)
            dh[n, j] += dh_next[n, j] * z  # dh = dh' z + dv W_hh                                        (10)
            for k, du, dv in zip(range(j, 3 * hidden, hidden), (dr, dz, dnew), (dr, dz, dq), strict=True):
                dx[n] += du * weight_ih[k]  # dx = du W_ih                                               (11)
                dh[n] += dv * weight_hh[k]
                dweight_ih[k] += du * x[n]  # dW_ih = du^T x                                             (12)
                dweight_hh[k] += dv * h[n]  # dW_hh = dv^T h                                             (13)
                dbias_ih[k] += du  # db_ih = sum_n du_n                                                  (14)
                dbias_hh[k] += dv  # db_hh = sum_n dv_n                                                  (15)
    return dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh


@fast_form(plain_gru_cell)
@without_autocast
def gru_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, I), h (N, H), weight_ih (3H, I), weight_hh (3H, H), biases (3H,) -> h' (N, H), gates (N, 3H), q (N, H)."""
    return gru_step(linear(x, weight_ih, bias_ih), h, weight_hh, bias_hh)


@fast_form(plain_gru_cell_backward)
@without_autocast
def gru_cell_backward(
    dh_next: Tensor,
    x: Tensor,
    h: Tensor,
    gates: Tensor,
    q: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    needs: tuple[bool, bool, bool, bool, bool, bool] = (True,) * 6,
) -> Gradients:
    """dh' (N, H) and what forward took and gave -> dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh (3H,)."""
    du, dv, dkept = gru_step_gradients(dh_next, h, gates, q)
    dx = torch.mm(du, weight_ih) if needs[0] else None  # dx = du W_ih                                   (11)
    dh = torch.addmm(dkept, dv, weight_hh) if needs[1] else None  # dh = dh' z + dv W_hh                 (10)
    dweight_ih = torch.mm(du.t(), x) if needs[2] else None  # dW_ih = du^T x                             (12)
    dweight_hh = torch.mm(dv.t(), h) if needs[3] else None  # dW_hh = dv^T h                             (13)
    dbias_ih = du.sum(0) if needs[4] else None  # db_ih = sum_n du_n                                     (14)
    dbias_hh = dv.sum(0) if needs[5] else None  # db_hh = sum_n dv_n                                     (15)
    return dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh


def gru_step(
    inputs: Tensor, h: Tensor, weight_hh: Tensor, bias_hh: Tensor | None, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """inputs (N, 3H) = u of all gates, h (N, H) -> h' (N, H), gates (N, 3H), q (N, H).

    The inputs are used up: the gates may be in their memory. `out` is where to write h'.
    """
    hidden = h.shape[1]
    v = widened(linear(h, weight_hh, bias_hh))
    u = widened(inputs)
    u_rz, u_n, q = u[:, : 2 * hidden], u[:, 2 * hidden :], v[:, 2 * hidden :]
    t = torch.add(u_rz, v[:, : 2 * hidden], out=reuse(u_rz))
    rz = logistic(torch.mul(t, -LOG2_E, out=reuse(t)))  # r, z = s(u + v)                             (2), (3)
    r, z = rz.chunk(2, 1)
    t = torch.addcmul(u_n, r, q, out=reuse(u_n))
    new = fast_tanh(t, out=reuse(t))  # n = tanh(u_n + r q)                                               (4)
    h_next = torch.addcmul(new, z, h - new, out=out)  # h' = n + z (h - n)                                (5)
    gates = torch.cat([rz, new], 1) if reuse(u) is None else u
    return h_next.to(h.dtype), gates.to(h.dtype), q.to(h.dtype)


def gru_step_gradients(
    dh_next: Tensor, h: Tensor, gates: Tensor, q: Tensor, out: tuple[Tensor | None, ...] = (None, None)
) -> tuple[Tensor, Tensor, Tensor]:
    """dh' (N, H) and the kept of forward -> du, dv (N, 3H), in `out` if that is given, and what goes past the gates.

    This is dh' z (N, H).
    """
    r, z, new = widened(gates).chunk(3, 1)
    dh = widened(dh_next)
    kept = dh * z
    dnew = (dh - kept) * (1 - new * new)  # du_n = dh' (1 - z)(1 - n^2)                                   (6)
    dz = kept * (1 - z) * (h - new)  # du_z = dh' (h - n) z (1 - z)                                       (7)
    dq = dnew * r  # dv_n = du_n r                                                                        (9)
    dr = dq * (1 - r) * q  # du_r = du_n q r (1 - r)                                                      (8)
    du, dv = torch.cat([dr, dz, dnew], 1, out=out[0]), torch.cat([dr, dz, dq], 1, out=out[1])
    return du.to(gates.dtype), dv.to(gates.dtype), kept.to(gates.dtype)


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (gru_cell, gru_cell_backward),
    "loops": (plain_gru_cell, plain_form(gru_cell_backward)),
}


class GRUCell(Cell):
    """One step of a gated recurrent unit (Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder",
    2014), in the form of torch.nn, where r multiplies W_hn h + b_hn rather than h.

    Twin of torch.nn.GRUCell: same arguments, same names and shapes of parameters (`weight_ih` (3H, I), `weight_hh`
    (3H, H), `bias_ih` and `bias_hh` (3H,), the gates r, z, n one below the other), same initialisation.

    `forward(input, hx)` takes (N, I) and (N, H), or (I,) and (H,), and gives h'; without `hx` the state is zeros.
    `backward(dh)` gives (dinput, dhx). With `input_gradient=False` dinput is None.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the two biases are there.
        generator: where the initial weights are drawn from.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        ValueError: for impossible sizes or another implementation.
        ShapeError: from `forward`, if the input or the state does not fit the cell, or they do not fit each other.
    """

    gates = 3
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

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (N, I) or (I,), hx (N, H) or (H,) -> h', shaped as hx."""
        x, (h,), form = self._batch(input, hx)
        forward, _ = self.implementations[self.implementation]
        h_next: Tensor
        h_next, gates, q = forward(x, h, *self._weights())
        self.save(x, h, gates, q, form)
        return h_next if form.batched else h_next[0]

    def backward(self, dh: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """dh' shaped as the state -> (dinput, dhx); adds to the gradients of the parameters."""
        x, h, gates, q, form = self.saved()
        if dh is None:
            return None, None
        _, backward = self.implementations[self.implementation]
        needs = self._needs(input_gradient, 1)
        needs = (*needs, needs[-1])  # a flag for each bias
        found = backward(dh.reshape(h.shape), x, h, gates, q, self.weight_ih, self.weight_hh, needs=needs)
        dx, dh, dweight_ih, dweight_hh, dbias_ih, dbias_hh = found
        self._accumulate(dweight_ih, dweight_hh, dbias_ih, dbias_hh)
        dx, dh = self._as_given(form, dx, dh)
        return dx, dh
