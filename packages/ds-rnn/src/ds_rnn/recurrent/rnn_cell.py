"""One step of a recurrent network: h' = tanh(x W_ih^T + b_ih + h W_hh^T + b_hh). Theory: docs/rnn_cell.md."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from ds_core import fast_form, plain_form
from ds_core.activations.relu import relu, relu_backward
from ds_core.activations.tanh import tanh, tanh_backward
from ds_core.speed.precision import without_autocast
from torch import Tensor

from ds_rnn.recurrent.cell import Cell, input_part

# N = batch, I = input_size, H = hidden_size


def plain_rnn_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    nonlinearity: Literal["tanh", "relu"],
) -> Tensor:
    """x (N, I), h (N, H), weight_ih (H, I), weight_hh (H, H), biases (H,) -> h_next (N, H)."""
    h_next = torch.zeros_like(h)
    for n in range(h.shape[0]):
        for j in range(h.shape[1]):
            # a_nj = sum_i x_ni W_ih,ji + sum_k h_nk W_hh,jk + b_ih,j + b_hh,j                              (1)
            a = (x[n] * weight_ih[j]).sum() + (h[n] * weight_hh[j]).sum()
            if bias_ih is not None and bias_hh is not None:
                a = a + bias_ih[j] + bias_hh[j]
            h_next[n, j] = tanh(a) if nonlinearity == "tanh" else relu(a)
    return h_next


def plain_rnn_cell_backward(
    dh_next: Tensor,
    x: Tensor,
    h: Tensor,
    h_next: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    nonlinearity: Literal["tanh", "relu"],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dh_next (N, H), and what forward took and gave -> dx (N, I), dh (N, H), dweight_ih, dweight_hh, dbias (H,)."""
    dx, dh, dbias = torch.zeros_like(x), torch.zeros_like(h), weight_hh.new_zeros(weight_hh.shape[0])
    dweight_ih, dweight_hh = torch.zeros_like(weight_ih), torch.zeros_like(weight_hh)
    for n in range(h.shape[0]):
        for j in range(h.shape[1]):
            slope = 1 - h_next[n, j] * h_next[n, j] if nonlinearity == "tanh" else h_next[n, j] > 0
            da = dh_next[n, j] * slope  # da_nj = dh'_nj f'(a_nj)                                         (2)
            dx[n] += da * weight_ih[j]  # dx_ni = sum_j da_nj W_ih,ji                                     (3)
            dh[n] += da * weight_hh[j]  # dh_nk = sum_j da_nj W_hh,jk                                     (4)
            dweight_ih[j] += da * x[n]  # dW_ih,ji = sum_n da_nj x_ni                                     (5)
            dweight_hh[j] += da * h[n]  # dW_hh,jk = sum_n da_nj h_nk                                     (6)
            dbias[j] += da  # db_j = sum_n da_nj                                                          (7)
    return dx, dh, dweight_ih, dweight_hh, dbias


# All elements at once: the sums over indices are products of matrices. What nobody needs is left out.
@fast_form(plain_rnn_cell)
@without_autocast
def rnn_cell(
    x: Tensor,
    h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    nonlinearity: Literal["tanh", "relu"],
) -> Tensor:
    """x (N, I), h (N, H), weight_ih (H, I), weight_hh (H, H), biases (H,) -> h_next (N, H)."""
    return rnn_step(input_part(x, weight_ih, bias_ih, bias_hh), h, weight_hh, nonlinearity)


@fast_form(plain_rnn_cell_backward)
@without_autocast
def rnn_cell_backward(
    dh_next: Tensor,
    x: Tensor,
    h: Tensor,
    h_next: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    nonlinearity: Literal["tanh", "relu"],
    needs: tuple[bool, bool, bool, bool, bool] = (True, True, True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """dh_next (N, H), and what forward took and gave -> dx (N, I), dh (N, H), dweight_ih, dweight_hh, dbias (H,).

    Both biases have the gradient dbias.
    """
    da = rnn_step_gradients(dh_next, h_next, nonlinearity)
    dx = torch.mm(da, weight_ih) if needs[0] else None  # dx_ni = sum_j da_nj W_ih,ji                     (3)
    dh = torch.mm(da, weight_hh) if needs[1] else None  # dh_nk = sum_j da_nj W_hh,jk                     (4)
    dweight_ih = torch.mm(da.t(), x) if needs[2] else None  # dW_ih,ji = sum_n da_nj x_ni                 (5)
    dweight_hh = torch.mm(da.t(), h) if needs[3] else None  # dW_hh,jk = sum_n da_nj h_nk                 (6)
    dbias = da.sum(0) if needs[4] else None  # db_j = sum_n da_nj                                         (7)
    return dx, dh, dweight_ih, dweight_hh, dbias


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (rnn_cell, rnn_cell_backward),
    "loops": (plain_rnn_cell, plain_form(rnn_cell_backward)),
}


def rnn_step(inputs: Tensor, h: Tensor, weight_hh: Tensor, nonlinearity: str, out: Tensor | None = None) -> Tensor:
    """inputs (N, H) of `input_part`, h (N, H) -> h' (N, H), in `out` if that is given."""
    a = torch.addmm(inputs, h, weight_hh.t(), out=out)  # a = x W_ih^T + b_ih + h W_hh^T + b_hh            (1)
    return tanh(a) if nonlinearity == "tanh" else relu(a)


def rnn_step_gradients(dh_next: Tensor, h_next: Tensor, nonlinearity: str) -> Tensor:
    """dh', h' (N, H) -> da (N, H)."""
    # da = dh' f'(a), and f'(a) is told by h' = f(a): 1 - h'^2 for tanh, [h' > 0] for relu                   (2)
    return tanh_backward(dh_next, h_next) if nonlinearity == "tanh" else relu_backward(dh_next, h_next)


class RNNCell(Cell):
    """One step of a recurrent network (Elman, "Finding Structure in Time", 1990).

    Twin of torch.nn.RNNCell: same arguments, same names and shapes of parameters (`weight_ih` (H, I), `weight_hh`
    (H, H), `bias_ih` and `bias_hh` (H,)), same initialisation, uniform in +-1/sqrt(H).

    `forward(input, hx)` takes (N, I) and (N, H), or (I,) and (H,), and gives the next state, shaped as `hx`;
    without `hx` the state is zeros. `backward(dh_next)` gives (dinput, dhx), where dhx goes to the step before. With
    `input_gradient=False` dinput is None; dhx is computed all the same, since the earlier steps' weights need it.

    Args:
        input_size: I.
        hidden_size: H.
        bias: whether the two biases are there.
        nonlinearity: "tanh" or "relu".
        generator: where the initial weights are drawn from.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        ValueError: for impossible sizes, another nonlinearity or another implementation.
        ShapeError: from `forward`, if the input or the state does not fit the layer, or they do not fit each other.
    """

    gates = 1
    implementations = IMPLEMENTATIONS

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        check_nonlinearity(type(self).__name__, nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype, generator, implementation)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (N, I) or (I,), hx (N, H) or (H,) -> h', shaped as hx."""
        x, (h,), form = self._batch(input, hx)
        forward, _ = self.implementations[self.implementation]
        h_next: Tensor = forward(x, h, *self._weights(), self.nonlinearity)
        self.save(x, h, h_next, form)
        return h_next if form.batched else h_next[0]

    def backward(self, dh: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """dh' shaped as the state -> (dinput, dhx); adds to the gradients of the parameters."""
        x, h, h_next, form = self.saved()
        if dh is None:
            return None, None
        _, backward = self.implementations[self.implementation]
        given = (dh.reshape(h.shape), x, h, h_next, self.weight_ih, self.weight_hh, self.nonlinearity)
        dx, dh, dweight_ih, dweight_hh, dbias = backward(*given, needs=self._needs(input_gradient, 1))
        self._accumulate(dweight_ih, dweight_hh, dbias)
        dx, dh = self._as_given(form, dx, dh)
        return dx, dh

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


def check_nonlinearity(name: str, nonlinearity: str) -> None:
    """Raise ValueError, naming the layer, for a nonlinearity that is none of the two."""
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f'{name}: given nonlinearity={nonlinearity!r}, expected "tanh" or "relu"')
