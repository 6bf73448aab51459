"""The bilinear layer y = x1^T W x2 + b. Theory: docs/bilinear.md."""

import math

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.errors import ShapeError
from ds_core.speed.plain import fast_form

# N = all leading dimensions together, I = in1_features, J = in2_features, O = out_features


def plain_bilinear(x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x1 (N, I), x2 (N, J), weight (O, I, J), bias (O,) -> y (N, O)."""
    x1, x2 = x1[:, None, :, None], x2[:, None, None, :]  # (N, 1, I, 1), (N, 1, 1, J)
    y = (x1 * weight * x2).sum((2, 3))  # y_no = sum_ij x1_ni W_oij x2_nj + b_o
    return y if bias is None else y + bias


def plain_bilinear_backward(
    dy: Tensor, x1: Tensor, x2: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dy (N, O), x1 (N, I), x2 (N, J), weight (O, I, J) -> dx1 (N, I), dx2 (N, J), dweight (O, I, J), dbias (O,)."""
    dbias = dy.sum(0)  # db_o = sum_n dy_no                                                                  (4)
    dy, x1, x2 = dy[:, :, None, None], x1[:, None, :, None], x2[:, None, None, :]
    dx1 = (dy * weight * x2).sum((1, 3))  # dx1_ni = sum_o dy_no s_noi, s_noi = sum_j W_oij x2_nj            (1)
    dx2 = (dy * x1 * weight).sum((1, 2))  # dx2_nj = sum_oi dy_no x1_ni W_oij                                (2)
    dweight = (dy * x1 * x2).sum(0)  # dW_oij = sum_n dy_no x1_ni x2_nj                                      (3)
    return dx1, dx2, dweight, dbias


# The sums are products of matrices, so that no tensor of N O I J numbers is made.
@fast_form(plain_bilinear)
def bilinear(x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x1 (N, I), x2 (N, J), weight (O, I, J), bias (O,) -> y (N, O)."""
    y = torch.bmm(_mixed(x2, weight), x1.unsqueeze(2)).squeeze(2)  # y_no = sum_i s_noi x1_ni
    return y if bias is None else y + bias


@fast_form(plain_bilinear_backward)
def bilinear_backward(
    dy: Tensor, x1: Tensor, x2: Tensor, weight: Tensor, needs: tuple[bool, bool, bool, bool] = (True, True, True, True)
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """dy (N, O), x1 (N, I), x2 (N, J), weight (O, I, J) -> dx1 (N, I), dx2 (N, J), dweight (O, I, J), dbias (O,)."""
    outputs, inputs1, inputs2 = weight.shape
    dx1 = dx2 = dweight = None
    if needs[0]:
        dx1 = torch.bmm(dy.unsqueeze(1), _mixed(x2, weight)).squeeze(1)  # dx1_ni = sum_o dy_no s_noi        (1)
    if needs[1] or needs[2]:
        # p_n,oi = dy_no x1_ni
        products = (dy.unsqueeze(2) * x1.unsqueeze(1)).reshape(dy.shape[0], outputs * inputs1)  # (N, O I)
        if needs[1]:
            dx2 = torch.mm(products, weight.reshape(outputs * inputs1, inputs2))  # dx2_nj = sum_oi p W_oij  (2)
        if needs[2]:
            dweight = torch.mm(products.t(), x2).view(weight.shape)  # dW_oij = sum_n p_n,oi x2_nj           (3)
    dbias = dy.sum(0) if needs[3] else None  # db_o = sum_n dy_no                                            (4)
    return dx1, dx2, dweight, dbias


def _mixed(x2: Tensor, weight: Tensor) -> Tensor:
    """x2 (N, J), weight (O, I, J) -> s_noi = sum_j W_oij x2_nj, the layer's linear map of x1, (N, O, I)."""
    outputs, inputs1, inputs2 = weight.shape
    return torch.mm(x2, weight.reshape(outputs * inputs1, inputs2).t()).view(x2.shape[0], outputs, inputs1)


class Bilinear(Module):
    """y_o = x1^T W_o x2 + b_o on the last dimensions of x1 and x2: a linear layer of all their products.

    Twin of torch.nn.Bilinear: same arguments, same parameters (`weight` (O, I, J), `bias` (O,)), same initialisation,
    uniform in +-1/sqrt(I). Keeps x1 and x2.

    Args:
        in1_features: I, the last dimension of `input1`.
        in2_features: J, the last dimension of `input2`.
        out_features: O, the last dimension of y.
        bias: whether b is there.
        generator: where the initial weights are drawn from.

    Raises:
        ValueError: where `in1_features` is not positive.
        ShapeError: from `forward`, where the inputs are not (..., I) and (..., J) with the same dimensions before.
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        if in1_features <= 0:
            raise ValueError(f"Bilinear: given in1_features={in1_features}, expected at least 1")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        bound = 1 / math.sqrt(in1_features)
        weight = torch.empty(out_features, in1_features, in2_features, device=device, dtype=dtype)
        self.weight = parameter(weight.uniform_(-bound, bound, generator=generator))
        self.bias: Tensor | None = None
        if bias:
            vector = torch.empty(out_features, device=device, dtype=dtype)
            self.bias = parameter(vector.uniform_(-bound, bound, generator=generator))

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """input1 (..., I), input2 (..., J) -> y (..., O)."""
        fits = input1.dim() > 0 and input2.dim() > 0 and input1.shape[:-1] == input2.shape[:-1]
        if not fits or (input1.shape[-1], input2.shape[-1]) != (self.in1_features, self.in2_features):
            given = f"{tuple(input1.shape)} and {tuple(input2.shape)}"
            expected = f"(..., {self.in1_features}) and (..., {self.in2_features}), alike before the last dimension"
            raise ShapeError(f"{self!r}: given inputs of shapes {given}, expected {expected}")
        self.save(input1, input2)
        return bilinear(_rows(input1), _rows(input2), self.weight, self.bias).view(
            *input1.shape[:-1], self.out_features
        )

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None] | None:
        """dy (..., O) -> dx1 (..., I), dx2 (..., J), or None twice without `input_gradient`; adds to the parameters."""
        input1, input2 = self.saved()
        if dy is None:
            return None, None
        needs = (
            input_gradient,
            input_gradient,
            self.weight.requires_grad,
            self.bias is not None and self.bias.requires_grad,
        )
        dx1, dx2, dweight, dbias = bilinear_backward(_rows(dy), _rows(input1), _rows(input2), self.weight, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return None if dx1 is None else dx1.view(input1.shape), None if dx2 is None else dx2.view(input2.shape)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


def _rows(x: Tensor) -> Tensor:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
