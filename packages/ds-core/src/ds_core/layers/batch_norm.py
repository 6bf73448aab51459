"""Batch normalisation: each channel to mean 0 and variance 1 over the batch. Theory: docs/batch_norm.md."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ds_core.engine.parameter import accumulate
from ds_core.engine.recompute import replaying
from ds_core.engine.trace import no_record
from ds_core.errors import ShapeError
from ds_core.layers.channel_norm import ChannelNorm
from ds_core.layers.channels import (
    along_channels,
    channel_moments,
    channel_sums,
    channel_totals,
    channelwise,
    inverse_values_per_channel,
    positions,
    scaled,
    standardised,
    values_per_channel,
)
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form, plain_form
from ds_core.speed.precision import wide_dtype, widened

# N = batch, C = channels, M = values of one channel: N times all dimensions after C


def plain_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, mean: Tensor | None, var: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, ...), all others (C,) -> y of the shape of x, and mean, var, rstd (C,), number by number."""
    wide, y = x.to(wide_dtype(x)), torch.zeros_like(x)
    means, variances, rstds = (wide.new_zeros(x.shape[1]) for _ in range(3))
    zero, share = wide.new_zeros(()), inverse_values_per_channel(x)  # 1 / M
    for c in range(x.shape[1]):
        if mean is None or var is None:
            mean_c = sum((wide[n] for n in positions(x, c)), zero) * share  # mean_c = 1/M sum_n x_nc          (1)
            # var_c = 1/M sum_n (x_nc - mean_c)^2                                                              (2)
            var_c = sum(((wide[n] - mean_c) * (wide[n] - mean_c) for n in positions(x, c)), zero) * share
        else:
            mean_c, var_c = mean[c], var[c]
        rstd_c = 1 / torch.sqrt(var_c + eps)  # r_c = 1 / sqrt(var_c + eps)                                    (3)
        w, b = 1 if weight is None else weight[c], 0 if bias is None else bias[c]
        for n in positions(x, c):
            y[n] = (wide[n] - mean_c) * rstd_c * w + b  # y_nc = xhat_nc w_c + b_c                           (4)
        means[c], variances[c], rstds[c] = mean_c, var_c, rstd_c
    return y, means, variances, rstds


def plain_batch_norm_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    inverse_count: float | Tensor | None,
    totals: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dy, x (N, C, ...), mean, rstd, weight (C,) -> dx, dweight, dbias, number by number."""
    dx, dweight, dbias = torch.zeros_like(x), torch.zeros_like(mean), torch.zeros_like(mean)
    for c in range(x.shape[1]):
        w = 1 if weight is None else weight[c]
        for n in positions(x, c):
            dbias[c] += dy[n]  # db_c = sum_n dy_nc                                                            (5)
            dweight[c] += dy[n] * (x[n] - mean[c]) * rstd[c]  # dw_c = sum_n dy_nc xhat_nc                     (6)
        dw, db = (dweight[c], dbias[c]) if totals is None else (totals[0][c], totals[1][c])
        for n in positions(x, c):
            if inverse_count is None:
                dx[n] = w * rstd[c] * dy[n]  # dx_nc = w_c r_c dy_nc                                           (9)
            else:
                xhat = (x[n] - mean[c]) * rstd[c]
                # dx_nc = w_c r_c (dy_nc - db_c / M - xhat_nc dw_c / M)                                        (8)
                dx[n] = w * rstd[c] * (dy[n] - db * inverse_count - xhat * dw * inverse_count)
    return dx, dweight, dbias


# All channels at once, but on a CPU chunk by chunk, so that the steps on a chunk stay in the cache. The factors of a
# channel are multiplied with each other first. Half precision is calculated in float32.
@fast_form(plain_batch_norm)
@compilable
def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    mean: Tensor | None = None,
    var: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, ...), weight, bias (C,) -> y of the shape of x, and mean, var, rstd (C,) that it was normalised by.

    Those are `mean` and `var` (C,) if both are given, otherwise the batch's, its variance divided by M.
    """
    mean, var = channel_moments(x) if mean is None or var is None else (widened(mean), widened(var))
    rstd = (var + eps).rsqrt()
    scale, shift = rstd if weight is None else rstd * widened(weight), None if bias is None else widened(bias)
    centre = along_channels(mean, x)
    # y_nc = (x_nc - mean_c) r_c w_c + b_c                                                                    (4)
    y = channelwise(lambda x, out: standardised(x, centre, scale, shift, out), x)
    return y, mean, var, rstd


@fast_form(plain_batch_norm_backward)
@compilable
def batch_norm_backward(
    dy: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    inverse_count: float | Tensor | None,
    needs: tuple[bool, bool, bool] = (True, True, True),
    totals: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """dy, x (N, C, ...), mean, rstd, weight (C,) -> dx, dweight, dbias.

    `inverse_count` is 1 / M if `mean` and `rstd` are those of the batch, None if they do not depend on it. `totals` are
    dweight and dbias of the whole batch if x is a part of it.
    """
    needs_sums = needs[0] and inverse_count is not None and totals is None
    dbias = dweight = dx = None
    centre = along_channels(mean, x)
    if needs[2] or needs_sums:
        dbias = channel_totals(channel_sums, dy)  # db_c = sum_n dy_nc                                         (5)
    if needs[1] or needs_sums:
        # dw_c = (sum_n dy_nc (x_nc - mean_c)) r_c                                                             (6)
        dweight = channel_totals(lambda dy, x: channel_sums((x - centre).mul_(dy)), dy, x) * rstd
    if needs[0]:
        scale = rstd if weight is None else rstd * widened(weight)
        along = along_channels(scale, x)
        if inverse_count is None:
            dx = channelwise(lambda dy, out: torch.mul(dy, along, out=out), dy)  # dx_nc = w_c r_c dy_nc       (9)
        else:
            sum2, sum1 = (dweight, dbias) if totals is None else totals
            assert sum1 is not None
            assert sum2 is not None
            # dx_nc = w_c r_c (dy_nc - db_c / M - (x_nc - mean_c) r_c dw_c / M)                                (8)
            factor = -inverse_count * scale * rstd * sum2  # of x_nc
            shift = -inverse_count * scale * sum1 - mean * factor
            dx = channelwise(lambda x, dy, out: scaled(x, factor, shift, out).addcmul_(dy, along), x, dy)
    return dx, dweight if needs[1] else None, dbias if needs[2] else None


IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "vectorized": (batch_norm, batch_norm_backward),
    "loops": (plain_batch_norm, plain_form(batch_norm_backward)),
}


class BatchNorm(ChannelNorm):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias for each channel; what all batch norms share.

    Ioffe and Szegedy, "Batch Normalization", 2015, algorithm 1. In training, mean and variance are those of the batch,
    and running averages follow them; in evaluation they are the running averages. A subclass, such as `BatchNorm1d`,
    says how many dimensions x has. Keeps x, mean and 1 / sqrt(variance + eps).

    Args:
        num_features: C, the second dimension of x.
        eps: added to the variance.
        momentum: the share of the new batch in the running averages; None: every batch counts alike.
        affine: whether `weight` and `bias` (C,) are there, first ones and zeros.
        track_running_stats: whether the running averages are there (`running_mean`, `running_var` (C,), the
            latter unbiased, and `num_batches_tracked`); otherwise the batch's own serve in evaluation too.
        bias: whether `bias` is there.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        TypeError, ValueError: for a `num_features` that is no whole number of 0 or more, an `eps` or a `momentum` that
            is no finite number, or an unknown implementation.
        ShapeError: from `forward`, where x is not (N, C, ...) with the right number of dimensions, or
            where a channel has one number and the batch's own variance is asked for.
        ValueError: from `forward`, where eps is negative, or 0 with the batch's own variance.
        TypeError: from `forward`, where x holds integers.
    """

    dimensions: ClassVar[tuple[int, ...] | None] = None  # that x may have; None: two or more
    implementations: ClassVar[dict[str, Any]] = IMPLEMENTATIONS

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias, implementation)

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...) -> y of the same shape."""
        self._check_input(input)
        normalise, _ = IMPLEMENTATIONS[self.implementation]
        y: Tensor
        if not self.training and self.running_mean is not None and self.running_var is not None:
            # A copy, because a batch of training may come between this forward and its backward.
            given = (self.running_mean.clone(), self.running_var)
            y, mean, _, rstd = normalise(input, self.weight, self.bias, self.eps, *given)
            self.save(input, mean, rstd, None)
            return y
        count = values_per_channel(input)
        if count == 1:
            expected = "more than 1 value per channel where the variance is the batch's own"
            raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, expected {expected}")
        y, mean, var, rstd = normalise(input, self.weight, self.bias, self.eps, None, None)
        self._track(mean, var * (count / max(1, count - 1)), count == 0)
        self.save(input, mean, rstd, inverse_values_per_channel(input))
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dx, both of the shape of x, or None without `input_gradient`; adds to those of `weight` and `bias`."""
        return self._back(dy, input_gradient, *self.saved())

    def _back(
        self, dy: Tensor | None, input_gradient: bool, x: Tensor, mean: Tensor, rstd: Tensor, inverse: float | None
    ) -> Tensor | None:
        if dy is None:
            return None
        _, backward = IMPLEMENTATIONS[self.implementation]
        needs = self._needs(input_gradient)
        dx: Tensor | None
        dx, dweight, dbias = backward(dy, x, mean, rstd, self.weight, inverse, needs)
        accumulate(self.weight, dweight)
        accumulate(self.bias, dbias)
        return dx

    def _check_input(self, x: Tensor) -> None:
        # not `in`: a compiler's sizes are equal without being the same
        fits = x.dim() >= 2 if self.dimensions is None else any(x.dim() == count for count in self.dimensions)
        if not fits or x.shape[1] != self.num_features:
            expected = " or ".join(f"{count}D" for count in self.dimensions or ()) or "(N, C, ...)"
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(x.shape)}, expected {expected} with C = {self.num_features}"
            )
        if not x.is_floating_point():
            raise TypeError(f"{self!r}: given input of {x.dtype}, expected floating numbers")
        of_batch = self.training or self.running_mean is None
        if self.eps < 0 or (self.eps == 0 and of_batch):
            limit = "a positive one where the variance is the batch's own" if of_batch else "one that is not negative"
            raise ValueError(f"{self!r}: given eps={self.eps}, expected {limit}")

    def _track(self, mean: Tensor, unbiased: Tensor, empty: bool = False) -> None:
        """Let the running averages follow the batch's mean and variance, both (C,)."""
        count = self.num_batches_tracked
        if not (self.training and self.track_running_stats) or count is None or replaying():
            return
        with no_record():
            count.add_(1)
            if empty:
                return
            momentum = count.to(mean.dtype).reciprocal() if self.momentum is None else self.momentum
            for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                if running is not None:
                    # running <- running + m (new - running)                                                 (10)
                    running.copy_(torch.lerp(widened(running), widened(new), momentum))
