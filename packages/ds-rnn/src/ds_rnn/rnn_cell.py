"""One step of a recurrent network: h' = tanh(x W_ih^T + b_ih + h W_hh^T + b_hh). Theory: docs/rnn_cell.md."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from ds_core import Module, ShapeError, accumulate, fast_form, parameter, plain_form
from ds_core.activations.relu import relu, relu_backward
from ds_core.activations.tanh import tanh, tanh_backward
from torch import Tensor

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
    a = torch.addmm(torch.mm(x, weight_ih.t()), h, weight_hh.t())  # (N, H)
    if bias_ih is not None and bias_hh is not None:
        a = a + (bias_ih + bias_hh)  # a = x W_ih^T + b_ih + h W_hh^T + b_hh                              (1)
    return tanh(a) if nonlinearity == "tanh" else relu(a)


@fast_form(plain_rnn_cell_backward)
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
    # da = dh' f'(a), and f'(a) is told by h' = f(a): 1 - h'^2 for tanh, [h' > 0] for relu                   (2)
    da = tanh_backward(dh_next, h_next) if nonlinearity == "tanh" else relu_backward(dh_next, h_next)
    dx = torch.mm(da, weight_ih) if needs[0] else None  # dx_ni = sum_j da_nj W_ih,ji                     (3)
    dh = torch.mm(da, weight_hh) if needs[1] else None  # dh_nk = sum_j da_nj W_hh,jk                     (4)
    dweight_ih = torch.mm(da.t(), x) if needs[2] else None  # dW_ih,ji = sum_n da_nj x_ni                 (5)
    dweight_hh = torch.mm(da.t(), h) if needs[3] else None  # dW_hh,jk = sum_n da_nj h_nk                 (6)
    dbias = da.sum(0) if needs[4] else None  # db_j = sum_n da_nj                                         (7)
    return dx, dh, dweight_ih, dweight_hh, dbias


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Tensor], Callable[..., tuple[Tensor | None, ...]]]] = {
    "vectorized": (rnn_cell, rnn_cell_backward),
    "loops": (plain_rnn_cell, plain_form(rnn_cell_backward)),
}


class RNNCell(Module):
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
        ValueError: for another nonlinearity or implementation.
        ShapeError: from `forward`, if the input or the state does not fit the layer, or they do not fit each other.
    """

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
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'RNNCell: given nonlinearity={nonlinearity!r}, expected "tanh" or "relu"')
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(f"RNNCell: given implementation={implementation!r}, expected {sorted(IMPLEMENTATIONS)}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.nonlinearity = nonlinearity
        self.implementation = implementation
        bound = 1 / math.sqrt(hidden_size) if hidden_size > 0 else 0.0

        def uniform(*shape: int) -> Tensor:
            return parameter(
                torch.empty(*shape, device=device, dtype=dtype).uniform_(-bound, bound, generator=generator)
            )

        self.weight_ih = uniform(hidden_size, input_size)
        self.weight_hh = uniform(hidden_size, hidden_size)
        self.bias_ih = uniform(hidden_size) if bias else None
        self.bias_hh = uniform(hidden_size) if bias else None

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if hx is None:
            hx = torch.zeros(*input.shape[:-1], self.hidden_size, dtype=input.dtype, device=input.device)
        one = input.dim() == 1
        if not (one or input.dim() == 2) or input.shape[-1] != self.input_size:
            expected = f"(N, {self.input_size}) or ({self.input_size},)"
            raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, expected {expected}")
        if hx.shape != (*input.shape[:-1], self.hidden_size):
            expected = f"{(*input.shape[:-1], self.hidden_size)} beside input of shape {tuple(input.shape)}"
            raise ShapeError(f"{self!r}: given hx of shape {tuple(hx.shape)}, expected {expected}")
        x, h = (input[None], hx[None]) if one else (input, hx)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        h_next = forward(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.nonlinearity)
        self.save(x, h, h_next)
        return h_next[0] if one else h_next

    def backward(self, dh_next: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        x, h, h_next = self.saved()
        if dh_next is None:
            return None, None
        one = dh_next.dim() == 1
        biases = [bias for bias in (self.bias_ih, self.bias_hh) if bias is not None and bias.requires_grad]
        weights = (self.weight_ih.requires_grad, self.weight_hh.requires_grad)
        needs = (input_gradient, True, *weights, len(biases) > 0)
        given = (dh_next[None] if one else dh_next, x, h, h_next, self.weight_ih, self.weight_hh, self.nonlinearity)
        _, backward = IMPLEMENTATIONS[self.implementation]
        dx, dh, dweight_ih, dweight_hh, dbias = backward(*given, needs=needs)
        accumulate(self.weight_ih, dweight_ih)
        accumulate(self.weight_hh, dweight_hh)
        for bias in biases:
            accumulate(bias, dbias if bias is biases[-1] or dbias is None else dbias.clone())
        if one:
            return None if dx is None else dx[0], None if dh is None else dh[0]
        return dx, dh

    def extra_repr(self) -> str:
        bias = "" if self.bias_ih is not None else ", bias=False"
        nonlinearity = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return f"{self.input_size}, {self.hidden_size}{bias}{nonlinearity}"
