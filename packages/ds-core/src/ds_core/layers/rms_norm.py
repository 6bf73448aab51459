"""Root mean square normalisation: each vector divided by the root of its mean square, then scaled.

Theory: docs/rms_norm.md.
"""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.engine.trace import reuse
from ds_core.errors import ShapeError
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype, widened, without_autocast

# N = all leading dimensions together, D = all normalised dimensions together


def plain_rms_norm(x: Tensor, weight: Tensor | None, eps: float | None) -> tuple[Tensor, Tensor]:
    """x (N, D), weight (D,) -> y (N, D), rrms (N, 1)."""
    mean_square = (x * x).mean(1, keepdim=True)
    rrms = 1 / torch.sqrt(mean_square + (default_eps(x) if eps is None else eps))
    y = x * rrms
    return y if weight is None else y * weight, rrms


def plain_rms_norm_backward(dy: Tensor, x: Tensor, rrms: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """dy, x (N, D), rrms (N, 1), weight (D,) -> dx (N, D), dweight (D,)."""
    dweight = (dy * x * rrms).sum(0)  # dw_d = sum_n dy_nd x_nd r_n                                          (1)
    dxhat = dy if weight is None else dy * weight  # dxhat_nd = dy_nd w_d                                    (2)
    # dx_nd = r_n (dxhat_nd - x_nd r_n^2 1/D sum_d dxhat_nd x_nd)                                            (3)
    dx = rrms * (dxhat - x * rrms * rrms * (dxhat * x).mean(1, keepdim=True))
    return dx, dweight


def default_eps(x: Tensor) -> float:
    """The distance from 1 to the next number of the dtype that is calculated in."""
    return torch.finfo(wide_dtype(x)).eps


# Each pass makes one tensor of the size of x. rrms is one number for each row, so it is multiplied after sums over
# rows, not before, and those sums are products of a matrix and a vector. Half precision is calculated in float32.
@fast_form(plain_rms_norm)
@compilable
def rms_norm(x: Tensor, weight: Tensor | None, eps: float | None) -> tuple[Tensor, Tensor]:
    """x (N, D), weight (D,) -> y (N, D), rrms (N, 1); eps None: `default_eps`."""
    wide = widened(x)
    squares = wide * wide
    rrms = (squares.mean(1, keepdim=True) + (default_eps(x) if eps is None else eps)).rsqrt()
    y = torch.mul(wide, rrms, out=reuse(squares))
    if weight is not None:
        y = torch.mul(y, widened(weight), out=reuse(y))
    return y.to(x.dtype), rrms


@fast_form(plain_rms_norm_backward)
@compilable
@without_autocast
def rms_norm_backward(
    dy: Tensor, x: Tensor, rrms: Tensor, weight: Tensor | None, needs: tuple[bool, bool] = (True, True)
) -> tuple[Tensor | None, Tensor | None]:
    """dy, x (N, D), rrms (N, 1), weight (D,) -> dx (N, D), dweight (D,)."""
    if not (needs[0] or needs[1]):
        return None, None
    wide, wide_x = widened(dy), widened(x)
    products = wide * wide_x
    dweight = torch.mv(products.t(), rrms.squeeze(1)) if needs[1] else None  # dw_d = sum_n dy_nd x_nd r_n   (1)
    if not needs[0]:
        return None, dweight
    # total_n = sum_d dxhat_nd x_nd, (N, 1)                                                                  (3)
    if weight is None:
        total = products.sum(1, keepdim=True)
        dxhat = wide
    else:
        total = torch.mv(products, widened(weight)).unsqueeze(1)
        dxhat = torch.mul(wide, widened(weight), out=reuse(products))  # dxhat_nd = dy_nd w_d                (2)
    # dx_nd = r_n (dxhat_nd - x_nd r_n^2 total_n / D)                                                        (3)
    inverse_size = 1 / max(1, x.shape[1])
    dx = torch.addcmul(dxhat, wide_x, total * rrms * rrms, value=-inverse_size, out=reuse(products)).mul_(rrms)
    return dx.to(x.dtype), dweight


class RMSNorm(Module):
    """y = x / sqrt(mean(x^2) + eps) * weight, the mean over the last dimensions.

    Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, equation 4. Twin of torch.nn.RMSNorm: same
    arguments, same parameter (`weight` of shape `normalized_shape`, first ones). Keeps x and 1 / sqrt(mean(x^2) + eps).

    Args:
        normalized_shape: the last dimensions of x, which are normalised together; an integer for one.
        eps: added to the mean square; None: the distance from 1 to the next number, of float64 where x
            is that, otherwise of float32, in which half precision is calculated.
        elementwise_affine: whether `weight` is there.

    Raises:
        ValueError: where `normalized_shape` is empty.
        ShapeError: from `forward`, where x does not end in `normalized_shape`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(normalized_shape, (int, Integral)):  # NumPy's integers are of the second kind alone
            normalized_shape = (int(normalized_shape),)
        self.normalized_shape = tuple(normalized_shape)
        if len(self.normalized_shape) == 0:
            raise ValueError("RMSNorm: given an empty normalized_shape, expected at least one dimension")
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight: Tensor | None = None
        if elementwise_affine:
            self.weight = parameter(torch.ones(self.normalized_shape, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., *normalized_shape) -> y of the same shape."""
        if x.shape[-len(self.normalized_shape) :] != self.normalized_shape:
            expected = ", ".join(map(str, self.normalized_shape))
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (..., {expected})")
        y, rrms = rms_norm(self._rows(x), self._flat_weight(), self.eps)
        self.save(x, rrms)
        return y.view(x.shape)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dx, both of the shape of x, or None without `input_gradient`; adds to that of `weight`."""
        x, rrms = self.saved()
        if dy is None:
            return None
        needs = (input_gradient, self.weight is not None and self.weight.requires_grad)
        dx, dweight = rms_norm_backward(self._rows(dy), self._rows(x), rrms, self._flat_weight(), needs)
        accumulate(self.weight, None if dweight is None else dweight.view(self.normalized_shape))
        return None if dx is None else dx.view(x.shape)

    def _rows(self, x: Tensor) -> Tensor:
        size = math.prod(self.normalized_shape)
        return x.reshape(math.prod(x.shape[: x.dim() - len(self.normalized_shape)]), size)

    def _flat_weight(self) -> Tensor | None:
        return None if self.weight is None else self.weight.reshape(self.weight.numel())

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
