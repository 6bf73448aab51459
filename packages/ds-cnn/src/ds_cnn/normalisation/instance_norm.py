"""Instance normalisation: each channel of each example to mean 0, variance 1. Theory: docs/instance_norm.md."""

import math
import warnings
from typing import Any, ClassVar, Literal

import torch
from ds_core import ShapeError, accumulate, fast_form, no_record, plain_form, replaying, reuse
from ds_core.layers.batch_norm import IMPLEMENTATIONS as BATCH_NORMS
from ds_core.layers.batch_norm import plain_batch_norm, plain_batch_norm_backward
from ds_core.layers.channel_norm import ChannelNorm
from ds_core.layers.channels import along_channels
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

# N = batch, C = channels, L = positions: all dimensions after C together


def plain_instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, ...), weight, bias (C,) -> y of the shape of x, and mean, var, rstd (N, C)."""
    y = torch.zeros_like(x)
    mean, var, rstd = (x.new_zeros(x.shape[:2], dtype=wide_dtype(x)) for _ in range(3))
    for n in range(x.shape[0]):  # an example is a batch of one                                                (1), (2)
        y[n : n + 1], mean[n], var[n], rstd[n] = plain_batch_norm(x[n : n + 1], weight, bias, eps, None, None)
    return y, mean, var, rstd


def plain_instance_norm_backward(
    dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """dy, x (N, C, ...), mean, rstd (N, C), weight (C,) -> dx of the shape of x, dweight, dbias (C,)."""
    dx = torch.zeros_like(x)
    dweight, dbias = (mean.new_zeros(x.shape[1]) for _ in range(2))
    for n in range(x.shape[0]):
        example = (dy[n : n + 1], x[n : n + 1], mean[n], rstd[n], weight, 1 / max(1, math.prod(x.shape[2:])))
        dx[n : n + 1], dweight_n, dbias_n = plain_batch_norm_backward(*example)  #                                  (5)
        dweight += dweight_n  # dw_c = sum_n dw_nc                                                                  (4)
        dbias += dbias_n  # db_c = sum_n db_nc                                                                      (3)
    return dx, dweight, dbias


# All examples at once. The sums over the positions serve all three gradients. Half precision is calculated in float32.
@fast_form(plain_instance_norm)
def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, ...), weight, bias (C,) -> y of the shape of x, and mean, var, rstd (N, C) that it was normalised by."""
    wide, share = widened(x), 1 / max(1, math.prod(x.shape[2:]))
    mean = _sums(wide) * share  # mean_nc = 1/L sum_l x_ncl                                                        (1)
    centred = wide - mean
    var = _sums(centred * centred) * share  # var_nc = 1/L sum_l (x_ncl - mean_nc)^2                               (1)
    rstd = (var + eps).rsqrt()
    scale = rstd if weight is None else rstd * along_channels(widened(weight), x)
    y = torch.mul(centred, scale, out=reuse(centred))  # y_ncl = (x_ncl - mean_nc) r_nc w_c + b_c                  (2)
    if bias is not None:
        y = torch.add(y, along_channels(widened(bias), x), out=reuse(y))
    return y.to(x.dtype), mean.flatten(1), var.flatten(1), rstd.flatten(1)


@fast_form(plain_instance_norm_backward)
def instance_norm_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy, x (N, C, ...), mean, rstd (N, C), weight (C,) -> dx of the shape of x, dweight, dbias (C,)."""
    if not any(needs):
        return None, None, None
    wide, share, one = widened(dy), 1 / max(1, math.prod(x.shape[2:])), [1] * (x.dim() - 2)
    r = rstd.view(*rstd.shape, *one)
    centred = widened(x) - mean.view(*mean.shape, *one)
    sum1, sum2 = _sums(wide), _sums(wide * centred) * r  # db_nc and dw_nc
    dbias = sum1.flatten(1).sum(0) if needs[2] else None  # db_c = sum_n db_nc                                     (3)
    dweight = sum2.flatten(1).sum(0) if needs[1] else None  # dw_c = sum_n dw_nc                                   (4)
    dx = None
    if needs[0]:
        # dx_ncl = w_c r_nc (dy_ncl - db_nc / L - xhat_ncl dw_nc / L)                                              (5)
        dx = torch.mul(centred, -share * r * sum2, out=reuse(centred))
        dx = torch.sub(dx, share * sum1, out=reuse(dx)).add_(wide)
        dx = torch.mul(dx, r if weight is None else r * along_channels(widened(weight), x), out=reuse(dx)).to(x.dtype)
    return dx, dweight, dbias


def _sums(x: Tensor) -> Tensor:
    """x (N, C, ...) -> (N, C, 1, ...)."""
    return x.sum(list(range(2, x.dim())), keepdim=True)


IMPLEMENTATIONS = {
    "vectorized": (instance_norm, instance_norm_backward),
    "loops": (plain_instance_norm, plain_form(instance_norm_backward)),
}


class InstanceNorm(ChannelNorm):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias for each channel of each example by itself.

    Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016. What `InstanceNorm1d` to `InstanceNorm3d` share.
    Keeps x, mean and 1 / sqrt(variance + eps).

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: the share of the new batch in the running averages; None: they stay as they are.
        affine: whether `weight` and `bias` (C,) are there, first ones and zeros.
        track_running_stats: whether running averages are there (`running_mean`, `running_var` (C,), the latter
            unbiased), and used in evaluation. `num_batches_tracked` stays 0, as in PyTorch.
        bias: whether `bias` is there.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        TypeError, ValueError: for a `num_features` that is no whole number of 0 or more, an `eps` or a `momentum` that
            is no finite number, or an unknown implementation.
        ShapeError: from `forward`, where x has the wrong number of dimensions or channels, or one position only while
            its own variance is asked for.
        TypeError: from `forward`, where x holds integers.
    """

    axes: ClassVar[int]  # how many dimensions come after C
    implementations: ClassVar[dict[str, Any]] = IMPLEMENTATIONS

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias, implementation)

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...) or (C, ...) -> y of the same shape."""
        x = self._batched(input)
        y: Tensor
        if not self.training and self.running_mean is not None and self.running_var is not None:
            forward, _ = BATCH_NORMS[self.implementation]
            # A copy, because a batch of training may come between this forward and its backward.
            y, mean, _, rstd = forward(x, self.weight, self.bias, self.eps, self.running_mean.clone(), self.running_var)
        else:
            length = math.prod(x.shape[2:])
            if length == 1:
                expected = "more than 1 position where the variance is the example's own"
                raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, expected {expected}")
            forward, _ = IMPLEMENTATIONS[self.implementation]
            y, mean, var, rstd = forward(x, self.weight, self.bias, self.eps)
            self._track(mean, var * (length / max(1, length - 1)))
        self.save(input, mean, rstd)
        return y.squeeze(0) if y.dim() != input.dim() else y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dx, both of the shape of x, or None without `input_gradient`; adds to those of `weight` and `bias`."""
        x, mean, rstd = self.saved()
        if dy is None:
            return None
        needs = self._needs(input_gradient)
        shape = x.shape
        if x.dim() == self.axes + 1:
            x, dy = x.unsqueeze(0), dy.unsqueeze(0)
        if mean.dim() == 1:  # running averages, which do not depend on x
            _, backward = BATCH_NORMS[self.implementation]
            dx, dweight, dbias = backward(dy, x, mean, rstd, self.weight, None, needs)
        else:
            _, backward = IMPLEMENTATIONS[self.implementation]
            dx, dweight, dbias = backward(dy, x, mean, rstd, self.weight, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return None if dx is None else dx.reshape(shape)

    def _batched(self, x: Tensor) -> Tensor:
        """x as (N, C, ...), checked."""
        given = f"{self!r}: given input of shape {tuple(x.shape)}, expected"
        if x.dim() not in (self.axes + 1, self.axes + 2):
            raise ShapeError(f"{given} {self.axes + 1}D or {self.axes + 2}D")
        channels = x.shape[x.dim() - self.axes - 1]
        if channels != self.num_features:
            if self.affine or self.running_mean is not None:
                raise ShapeError(f"{given} {self.num_features} channels")
            warnings.warn(f"{given} {self.num_features} channels; without weights any number will do", stacklevel=3)
        if not x.is_floating_point():
            raise TypeError(f"{self!r}: given input of {x.dtype}, expected floating numbers")
        return x if x.dim() == self.axes + 2 else x.unsqueeze(0)

    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        """Let the running averages follow the means over the batch of mean and variance, both (N, C)."""
        if not self.training or self.momentum is None or replaying() or mean.shape[0] == 0:
            return
        with no_record():
            for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                if running is not None:
                    # running <- running + m (1/N sum_n new_n - running)                                             (6)
                    running.copy_(torch.lerp(widened(running), new.mean(0).to(widened(running).dtype), self.momentum))


class InstanceNorm1d(InstanceNorm):
    """`InstanceNorm` of (N, C, L) or (C, L). Twin of torch.nn.InstanceNorm1d."""

    axes: ClassVar[int] = 1


class InstanceNorm2d(InstanceNorm):
    """`InstanceNorm` of (N, C, H, W) or (C, H, W). Twin of torch.nn.InstanceNorm2d."""

    axes: ClassVar[int] = 2


class InstanceNorm3d(InstanceNorm):
    """`InstanceNorm` of (N, C, D, H, W) or (C, D, H, W). Twin of torch.nn.InstanceNorm3d."""

    axes: ClassVar[int] = 3
