"""Group normalisation: each group of an example's channels to mean 0 and variance 1. Theory: docs/group_norm.md."""

import math

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.engine.trace import reuse
from ds_core.errors import ShapeError, check_against_weight
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import widened

# N = batch, C = num_channels, L = all dimensions after C together, G = num_groups, D = C L / G, numbers of a group


def plain_group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, C, L), weight, bias (C,) -> y (N, C, L), mean and rstd (N, G)."""
    n, channels, length = x.shape
    rows = x.reshape(n, groups, channels // groups * length)  # (N, G, D)
    mean = rows.mean(2, keepdim=True)
    rstd = 1 / torch.sqrt(((rows - mean) * (rows - mean)).mean(2, keepdim=True) + eps)
    y = ((rows - mean) * rstd).reshape(x.shape)  # xhat_ncl
    y = y if weight is None else y * weight.unsqueeze(1)
    return y if bias is None else y + bias.unsqueeze(1), mean.squeeze(2), rstd.squeeze(2)


def plain_group_norm_backward(
    dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """dy, x (N, C, L), mean, rstd (N, G), weight (C,) -> dx (N, C, L), dweight, dbias (C,)."""
    rows = (*rstd.shape, x.shape[1] // rstd.shape[1] * x.shape[2])  # N, G, D
    xhat, r = (x.reshape(rows) - mean.unsqueeze(2)) * rstd.unsqueeze(2), rstd.unsqueeze(2)
    dbias = dy.sum((0, 2))  # db_c = sum_nl dy_ncl                                                           (1)
    dweight = (dy * xhat.reshape(x.shape)).sum((0, 2))  # dw_c = sum_nl dy_ncl xhat_ncl                      (2)
    dxhat = dy if weight is None else dy * weight.unsqueeze(1)  # dxhat_ncl = dy_ncl w_c                     (3)
    dxhat = dxhat.reshape(rows)
    mean1, mean2 = dxhat.mean(2, keepdim=True), (dxhat * xhat).mean(2, keepdim=True)
    # dx = r (dxhat - 1/D sum dxhat - xhat 1/D sum (dxhat xhat)), the sums over the D numbers of a group     (4)
    return (r * (dxhat - mean1 - xhat * mean2)).reshape(x.shape), dweight, dbias


# Sums over L are made once and serve all three gradients, and the factors of a channel or group are multiplied with
# each other first, so that x is read as few times as possible. Half precision is calculated in float32.
# Not @compilable: compiled, the sums over channels take six times as long as eager for inputs (N, C).
@fast_form(plain_group_norm)
def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, C, L), weight, bias (C,) -> y (N, C, L), mean and rstd (N, G)."""
    n, channels, length = x.shape
    rows = widened(x).view(n, groups, channels // groups * length)
    mean = rows.mean(2, keepdim=True)
    centred = rows - mean
    rstd = ((centred * centred).mean(2, keepdim=True) + eps).rsqrt()
    mean, rstd, centred = mean.squeeze(2), rstd.squeeze(2), centred.view(x.shape)
    y = torch.mul(centred, _scale(rstd, weight, channels), out=reuse(centred))
    if bias is not None:
        y = torch.add(y, widened(bias).unsqueeze(1), out=reuse(y))
    return y.to(x.dtype), mean, rstd


@fast_form(plain_group_norm_backward)
def group_norm_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy, x (N, C, L), mean, rstd (N, G), weight (C,) -> dx (N, C, L), dweight, dbias (C,)."""
    if not any(needs):
        return None, None, None
    n, channels, _ = x.shape
    groups = rstd.shape[1]
    members = channels // groups
    wide = widened(dy)
    sum1 = wide.sum(2)  # (N, C)
    dbias = sum1.sum(0) if needs[2] else None  # db_c = sum_nl dy_ncl                                        (1)
    if not (needs[0] or needs[1]):
        return None, None, dbias
    centred = widened(x) - _of_channels(mean, channels)
    sum2 = (wide * centred).sum(2)  # (N, C)
    # dw_c = sum_n (sum_l dy_ncl (x_ncl - mean_ng)) r_ng                                                     (2)
    dweight = (sum2 * _of_channels(rstd, channels).squeeze(2)).sum(0) if needs[1] else None
    if not needs[0]:
        return None, dweight, dbias
    if weight is not None:
        sum1, sum2 = sum1 * widened(weight), sum2 * widened(weight)  # dxhat_ncl = dy_ncl w_c                (3)
    # sum1_ng = sum_cl dxhat_ncl and sum2_ng = sum_cl dxhat_ncl (x_ncl - mean_ng), c in group g              (4)
    sum1, sum2 = (sums.view(n, groups, members).sum(2) for sums in (sum1, sum2))
    # dx_ncl = r_ng (dy_ncl w_c - sum1_ng / D - (x_ncl - mean_ng) r_ng^2 sum2_ng / D)                        (4)
    inverse_size = 1 / max(1, members * x.shape[2])
    dx = torch.mul(centred, _of_channels(-inverse_size * rstd * rstd * rstd * sum2, channels), out=reuse(centred))
    dx = torch.sub(dx, _of_channels(inverse_size * rstd * sum1, channels), out=reuse(dx))
    return dx.addcmul_(wide, _scale(rstd, weight, channels)).to(x.dtype), dweight, dbias


def _of_channels(of_groups: Tensor, channels: int) -> Tensor:
    """(N, G) -> (N, C, 1): for each channel what belongs to its group."""
    n, groups = of_groups.shape
    return of_groups.unsqueeze(2).expand(n, groups, channels // groups).reshape(n, channels, 1)


def _scale(rstd: Tensor, weight: Tensor | None, channels: int) -> Tensor:
    """r_ng w_c, (N, C, 1)."""
    scale = _of_channels(rstd, channels)
    return scale if weight is None else scale * widened(weight).unsqueeze(1)


class GroupNorm(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, mean and variance over each group of channels.

    Wu and He, "Group Normalization", 2018, equations 1 to 7: what BatchNorm does, but for each example alone, so
    that training and evaluation are the same. Twin of torch.nn.GroupNorm: same arguments, same parameters (`weight` and
    `bias` (C,), first ones and zeros). Keeps x, mean and 1 / sqrt(variance + eps).

    Args:
        num_groups: G; 1 normalises the whole example, C each channel by itself.
        num_channels: C, the second dimension of x, a multiple of G.
        eps: added to the variance.
        affine: whether `weight` and `bias` are there.
        bias: whether `bias` is there.

    Raises:
        ValueError: where `num_groups` is not positive or does not divide `num_channels`.
        ShapeError: from `forward`, where x is not (N, C, ...), or has but one number where there is one for each group.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups <= 0 or num_channels % num_groups != 0:
            given = f"num_groups={num_groups}, num_channels={num_channels}"
            raise ValueError(f"GroupNorm: given {given}, expected groups that divide the channels evenly")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if affine:
            self.weight = parameter(torch.ones(num_channels, device=device, dtype=dtype))
            if bias:
                self.bias = parameter(torch.zeros(num_channels, device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...) -> y of the same shape."""
        if input.dim() < 2 or input.shape[1] != self.num_channels:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(input.shape)}, expected (N, {self.num_channels}, ...)"
            )
        check_against_weight(self, input, self.weight)
        flat = self._flat(input)
        if input.shape[0] * flat.shape[2] == 1 and self.num_groups == self.num_channels:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(input.shape)}, expected more than 1 value per channel"
            )
        y, mean, rstd = group_norm(flat, self.weight, self.bias, self.num_groups, self.eps)
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
        dx, dweight, dbias = group_norm_backward(self._flat(dy), self._flat(x), mean, rstd, self.weight, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return None if dx is None else dx.view(x.shape)

    def _flat(self, x: Tensor) -> Tensor:
        """x (N, C, ...) -> (N, C, L), its numbers in index order."""
        return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:])).contiguous()

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
