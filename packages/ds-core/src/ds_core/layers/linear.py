"""The linear layer y = x W^T + b. Theory: docs/linear.md."""

import math

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.errors import check_last_dimension
from ds_core.initializers.distributions import uniform_
from ds_core.initializers.variance_scaling import kaiming_uniform_

# N = all leading dimensions together, I = in_features, O = out_features


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x (..., I), weight (O, I), bias (O,) -> y (..., O)."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (N, I)
    y = torch.mm(rows, weight.t()) if bias is None else torch.addmm(bias, rows, weight.t())  # (N, O)
    return y.view(*x.shape[:-1], weight.shape[0])


def linear_backward(
    dy: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool, bool] = (True, True, True)
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy (..., O), x (..., I), weight (O, I) -> dx (..., I), dweight (O, I), dbias (O,)."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # (N, I)
    drows = dy.reshape(rows.shape[0], weight.shape[0])  # (N, O)
    dx = torch.mm(drows, weight).view(x.shape) if needs[0] else None  # dx_ni = sum_o dy_no W_oi        (1)
    dweight = torch.mm(drows.t(), rows) if needs[1] else None  # dW_oi = sum_n dy_no x_ni               (2)
    dbias = drows.sum(0) if needs[2] else None  # db_o = sum_n dy_no                                    (3)
    return dx, dweight, dbias


class Linear(Module):
    """y = x W^T + b on the last dimension of x.

    Twin of torch.nn.Linear: same arguments, same names and shapes of parameters
    (`weight` (O, I), `bias` (O,)), same initialisation, uniform in +-1/sqrt(I)
    (LeCun et al., "Efficient BackProp", 1998, up to the constant).

    Args:
        in_features: I, the last dimension of x.
        out_features: O, the last dimension of y.
        bias: whether b is there.
        generator: where the initial weights are drawn from.

    Raises:
        ShapeError: from `forward`, where the last dimension of x is not I.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.in_features = in_features
        self.out_features = out_features
        weight = torch.empty(out_features, in_features, device=device, dtype=dtype)
        # the slope for which the bound is 1/sqrt(I): sqrt(3) sqrt(2 / (1 + 5)) = 1
        self.weight = parameter(kaiming_uniform_(weight, a=math.sqrt(5), generator=generator))
        self.bias: Tensor | None = None
        if bias:
            bound = 1 / math.sqrt(in_features) if in_features > 0 else 0.0
            vector = torch.empty(out_features, device=device, dtype=dtype)
            self.bias = parameter(uniform_(vector, -bound, bound, generator=generator))

    def forward(self, input: Tensor) -> Tensor:
        """input (..., I) -> y (..., O)."""
        check_last_dimension(self, input, self.in_features)
        self.save(input)
        return linear(input, self.weight, self.bias)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy (..., O) -> dx (..., I), or None without `input_gradient`; adds to those of `weight` and `bias`."""
        (x,) = self.saved()
        if dy is None:
            return None
        needs = (input_gradient, self.weight.requires_grad, self.bias is not None and self.bias.requires_grad)
        dx, dweight, dbias = linear_backward(dy, x, self.weight, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return dx

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
