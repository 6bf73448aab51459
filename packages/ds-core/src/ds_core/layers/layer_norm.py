"""Layer normalisation: each vector to mean 0 and variance 1, then scaled and shifted. Theory: docs/layer_norm.md."""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.engine.trace import reuse
from ds_core.errors import ShapeError, check_against_weight
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import widened, without_autocast

# N = all leading dimensions together, D = all normalised dimensions together


def plain_layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, D), weight (D,), bias (D,) -> y (N, D), mean (N, 1), rstd (N, 1)."""
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) * (x - mean)).mean(1, keepdim=True)
    rstd = 1 / torch.sqrt(variance + eps)
    y = (x - mean) * rstd
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean, rstd


def plain_layer_norm_backward(
    dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """dy, x (N, D), mean, rstd (N, 1), weight (D,) -> dx (N, D), dweight (D,), dbias (D,)."""
    xhat = (x - mean) * rstd
    dbias = dy.sum(0)  # db_d = sum_n dy_nd                                                                  (1)
    dweight = (dy * xhat).sum(0)  # dw_d = sum_n dy_nd xhat_nd                                               (2)
    dxhat = dy if weight is None else dy * weight  # dxhat_nd = dy_nd w_d                                    (3)
    mean1, mean2 = dxhat.mean(1, keepdim=True), (dxhat * xhat).mean(1, keepdim=True)
    # dx_nd = rstd_n (dxhat_nd - 1/D sum_d dxhat_nd - xhat_nd 1/D sum_d dxhat_nd xhat_nd)                    (4)
    return rstd * (dxhat - mean1 - xhat * mean2), dweight, dbias


# Each pass makes two tensors of the size of x. rstd is one number for each row, so it is multiplied after sums over
# rows, not before, and those sums are products of a matrix and a vector. Half precision is calculated in float32.
@fast_form(plain_layer_norm)
@compilable
def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, D), weight (D,), bias (D,) -> y (N, D), mean (N, 1), rstd (N, 1)."""
    wide = widened(x)
    mean = wide.mean(1, keepdim=True)
    centred = wide - mean
    rstd = ((centred * centred).mean(1, keepdim=True) + eps).rsqrt()
    y = torch.mul(centred, rstd, out=reuse(centred))
    if weight is not None and bias is not None:
        y = torch.addcmul(widened(bias), y, widened(weight), out=reuse(y))
    elif weight is not None:
        y = torch.mul(y, widened(weight), out=reuse(y))
    elif bias is not None:
        y = torch.add(y, widened(bias), out=reuse(y))
    return y.to(x.dtype), mean, rstd


@fast_form(plain_layer_norm_backward)
@compilable
@without_autocast
def layer_norm_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy, x (N, D), mean, rstd (N, 1), weight (D,) -> dx (N, D), dweight (D,), dbias (D,)."""
    wide = widened(dy)
    dbias = wide.sum(0) if needs[2] else None  # db_d = sum_n dy_nd                                          (1)
    if not (needs[0] or needs[1]):
        return None, None, dbias
    centred = widened(x) - mean  # xhat = (x - mean) rstd, whose rstd is left to smaller factors
    products = wide * centred
    # dw_d = sum_n (dy_nd (x_nd - mean_n)) rstd_n                                                            (2)
    dweight = torch.mv(products.t(), rstd.squeeze(1)) if needs[1] else None
    if not needs[0]:
        return None, dweight, dbias
    # sum1_n = sum_d dxhat_nd and sum2_n = sum_d dxhat_nd (x_nd - mean_n), both (N, 1)                       (4)
    if weight is None:
        sum1, sum2 = wide.sum(1, keepdim=True), products.sum(1, keepdim=True)
        dxhat = wide
    else:
        sum1, sum2 = (torch.mv(rows, widened(weight)).unsqueeze(1) for rows in (wide, products))
        dxhat = torch.mul(wide, widened(weight), out=reuse(products))  # dxhat_nd = dy_nd w_d                (3)
    # dx_nd = rstd_n (dxhat_nd - sum1_n / D - (x_nd - mean_n) rstd_n^2 sum2_n / D)                           (4)
    inverse_size = 1 / max(1, x.shape[1])
    dx = torch.sub(dxhat, sum1, alpha=inverse_size, out=reuse(products))
    dx = dx.addcmul_(centred, sum2 * rstd * rstd, value=-inverse_size).mul_(rstd)
    return dx.to(x.dtype), dweight, dbias


class LayerNorm(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, mean and variance over the last dimensions.

    Ba et al., "Layer Normalization", 2016, equation 4. Twin of torch.nn.LayerNorm: same arguments, same
    parameters (`weight` and `bias` of shape `normalized_shape`, first ones and zeros). Keeps x, mean and
    1 / sqrt(variance + eps).

    Args:
        normalized_shape: the last dimensions of x, which are normalised together; an integer for one.
        eps: added to the variance.
        elementwise_affine: whether `weight` and `bias` are there.
        bias: whether `bias` is there.

    Raises:
        ValueError: where `normalized_shape` is empty.
        ShapeError: from `forward`, where x does not end in `normalized_shape`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(normalized_shape, (int, Integral)):  # NumPy's integers are of the second kind alone
            normalized_shape = (int(normalized_shape),)
        self.normalized_shape = tuple(normalized_shape)
        if len(self.normalized_shape) == 0:
            raise ValueError("LayerNorm: given an empty normalized_shape, expected at least one dimension")
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if elementwise_affine:
            self.weight = parameter(torch.ones(self.normalized_shape, device=device, dtype=dtype))
            if bias:
                self.bias = parameter(torch.zeros(self.normalized_shape, device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """input (..., *normalized_shape) -> y of the same shape."""
        if input.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            expected = ", ".join(map(str, self.normalized_shape))
            raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, expected (..., {expected})")
        check_against_weight(self, input, self.weight)
        rows = self._rows(input)
        y, mean, rstd = layer_norm(rows, self._flat(self.weight), self._flat(self.bias), self.eps)
        self.save(input, mean, rstd)
        return y.view(input.shape)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dx, both of the shape of x, or None without `input_gradient`; adds to those of `weight` and `bias`."""
        x, mean, rstd = self.saved()
        if dy is None:
            return None
        needs = (
            input_gradient,
            self.weight is not None and self.weight.requires_grad,
            self.bias is not None and self.bias.requires_grad,
        )
        dx, dweight, dbias = layer_norm_backward(
            self._rows(dy), self._rows(x), mean, rstd, self._flat(self.weight), needs
        )
        accumulate(self.weight, None if dweight is None else dweight.view(self.normalized_shape))
        accumulate(self.bias, None if dbias is None else dbias.view(self.normalized_shape))
        return None if dx is None else dx.view(x.shape)

    def _rows(self, x: Tensor) -> Tensor:
        size = math.prod(self.normalized_shape)
        return x.reshape(math.prod(x.shape[: x.dim() - len(self.normalized_shape)]), size)

    def _flat(self, vector: Tensor | None) -> Tensor | None:
        return None if vector is None else vector.reshape(vector.numel())

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )
