"""Batch normalisation over the batches of all processes together. Theory: docs/sync_batch_norm.md."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ds_core.engine.parameter import accumulate
from ds_core.layers.batch_norm import BatchNorm, batch_norm, batch_norm_backward
from ds_core.layers.channels import along_channels, channel_sums, inverse_values_per_channel, values_per_channel
from ds_core.layers.replace_layers import replace_layers
from ds_core.speed.precision import widened

# N = batch of this process, C = channels, K = processes, n_k = values of a channel in process k


def batch_moments(x: Tensor) -> Tensor:
    """x (N, C, ...) -> one vector (3 C + 1,): mean, sums of the differences from it and of their squares, and n_k.

    The differences sum to 0 but for the rounding of the mean, which `joined_moments` so makes good.
    """
    wide = widened(x)
    mean = channel_sums(wide) * inverse_values_per_channel(x)
    centred = wide - along_channels(mean, x)
    count = torch.full((1,), values_per_channel(x), dtype=wide.dtype, device=x.device)
    return torch.cat([mean, channel_sums(centred), channel_sums(centred * centred), count])


def joined_moments(moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of `batch_moments` (K, 3 C + 1) -> mean, variance (C,) and count () of all batches together."""
    channels = moments.shape[1] // 3
    means, sums, squares, counts = torch.split(moments, [channels, channels, channels, 1], dim=1)
    total = counts.sum()
    inverse_total = total.clamp_min(1).reciprocal()
    # Any centre near the mean will do; the mean of the differences from it, `rest`, makes good what rounding did to it.
    centre = (counts * means).sum(0) * inverse_total  # c = sum_k n_k mean_k / n, rounded                    (1)
    offsets = means - centre  # o_k, (K, C)
    rest = (sums + counts * offsets).sum(0) * inverse_total  # rest = sum_k (sums_k + n_k o_k) / n           (2)
    # var = sum_k (squares_k + 2 o_k sums_k + n_k o_k^2) / n - rest^2                                        (3)
    var = (squares + offsets * (2 * sums + counts * offsets)).sum(0) * inverse_total - rest * rest
    mean = centre + rest  # mean = c + rest                                                                  (2)
    return mean, var.clamp_min(0), total  # rounding alone would make it negative


def gathered(moments: Tensor, group: Any) -> Tensor:
    """This process's vector -> those of all processes as rows, through which autograd finds its way back."""
    rows = [torch.empty_like(moments) for _ in range(dist.get_world_size(group))]
    dist.all_gather(rows, moments.detach(), group=group)
    rows[dist.get_rank(group)] = moments
    stacked = torch.stack(rows)
    if stacked.requires_grad:
        # Each process's loss depends on every row, so that a row's gradient is the sum of what they all find.
        stacked.register_hook(lambda gradient: summed(gradient, group))  # type: ignore[no-untyped-call]
    return stacked


def summed(tensor: Tensor, group: Any) -> Tensor:
    """The sum of the processes' tensors of one shape."""
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


class SyncBatchNorm(BatchNorm):
    """`BatchNorm` whose batch is that of all processes together; x (N, C, ...) of each is a part of it.

    The moments are joined as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979. Twin of torch.nn.SyncBatchNorm, which runs on GPUs alone: here it is any device that the
    process group serves. In training every process calls forward, and then backward, equally often, for each waits for
    the others; their batches may differ in size, and be empty. In evaluation, and where torch.distributed has no more
    than one process, it is `BatchNorm`.

    `dx` is the gradient of the sum of all processes' losses; those of `weight` and `bias` are of this process's part
    alone, to be summed or averaged with all other parameters' gradients.

    Args:
        num_features, eps, momentum, affine, track_running_stats, bias: as in `BatchNorm`.
        process_group: whose batches are joined; None: those of all processes.

    Raises:
        ShapeError: from `forward`, where x is not (N, C, ...); with one process, where a channel has one number.
        ValueError: from `forward`, where C is 0 or eps is negative, or 0 with the batches' own variance.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    @classmethod
    def convert_sync_batchnorm(cls, module: Any, process_group: Any | None = None) -> Any:
        """Replace every `BatchNorm` in `module`, which is changed, by a `SyncBatchNorm`; or `module` itself.

        Parameters and buffers stay the same tensors, so that an optimizer made before goes on with them.
        """
        return replace_layers(module, BatchNorm, lambda layer: _synchronised(cls, layer, process_group))

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...) -> y of the same shape."""
        if self.num_features == 0:
            raise ValueError(f"{self!r}: given no channels, expected at least one")
        if not self._synchronises():
            return super().forward(input)
        self._check_input(input)
        mean, var, count = joined_moments(gathered(batch_moments(input), self.process_group))
        y, mean, var, rstd = batch_norm(input, self.weight, self.bias, self.eps, mean, var)
        self._track(mean, var * (count / (count - 1).clamp_min(1)))
        self.save(input, mean, rstd, count.clamp_min(1).reciprocal())
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dx, both of the shape of x, or None without `input_gradient`; adds to those of `weight` and `bias`."""
        x, mean, rstd, inverse_count = self.saved()
        if not isinstance(inverse_count, Tensor):
            return self._back(dy, input_gradient, x, mean, rstd, inverse_count)
        _, needs_weight, needs_bias = self._needs(input_gradient)
        dweight = dbias = None
        if dy is None:
            dy = torch.zeros_like(x)  # for the others wait for this process's sums
            needs_weight = needs_bias = False
        needs = (False, needs_weight or input_gradient, needs_bias or input_gradient)
        _, dweight, dbias = batch_norm_backward(dy, x, mean, rstd, self.weight, inverse_count, needs)
        accumulate(self.weight, dweight if needs_weight else None)
        accumulate(self.bias, dbias if needs_bias else None)
        if not input_gradient or dweight is None or dbias is None:
            return None
        # dw_c and db_c of all processes together                                                            (4)
        totals = torch.split(summed(torch.cat([dweight, dbias]), self.process_group), self.num_features)
        options = ((True, False, False), (totals[0], totals[1]))
        dx, _, _ = batch_norm_backward(dy, x, mean, rstd, self.weight, inverse_count, *options)
        return dx

    def _synchronises(self) -> bool:
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return False
        return dist.get_world_size(self.process_group) > 1


def _synchronised(cls: type[SyncBatchNorm], layer: BatchNorm, process_group: Any) -> SyncBatchNorm:
    """A layer of `cls` that does what `layer` does, with the same tensors."""
    options = (layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    new = cls(*options, process_group, "meta", bias=layer.bias is not None)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "training"):
        setattr(new, name, getattr(layer, name))
    return new
