"""What norms of channels have in common: a weight and a bias, and averages that run. Theory: docs/batch_norm.md."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ds_core.arguments import check_implementation, real_number, whole_number
from ds_core.engine.module import Module
from ds_core.engine.parameter import parameter
from ds_core.engine.trace import no_record


class ChannelNorm(Module):
    """The numbers of a norm, one for each of C channels; a subclass says what it does with them.

    Args:
        num_features: C, 0 or more.
        eps: added to the variance.
        momentum: the share of a new batch in the running averages, or None.
        affine: whether `weight` and `bias` (C,) are there, first ones and zeros.
        track_running_stats: whether the running averages are there: `running_mean`, `running_var` (C,), first zeros and
            ones, and `num_batches_tracked`.
        bias: whether `bias` is there.
        implementation: a key of `implementations`.

    Raises:
        TypeError: `num_features` is no whole number, `eps` or `momentum` none at all.
        ValueError: C is below 0, `eps` or `momentum` not finite, or the implementation unknown.
    """

    implementations: ClassVar[dict[str, Any]]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        bias: bool,
        implementation: Literal["vectorized", "loops"],
    ) -> None:
        name = type(self).__name__
        check_implementation(self, implementation, self.implementations)
        self.implementation = implementation
        self.num_features = channels = whole_number(name, "num_features", num_features, least=0)
        self.eps = real_number(name, "eps", eps)
        self.momentum = None if momentum is None else real_number(name, "momentum", momentum)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        if affine:
            self.weight = parameter(torch.ones(channels, device=device, dtype=dtype))
            if bias:
                self.bias = parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.running_mean: Tensor | None = None
        self.running_var: Tensor | None = None
        self.num_batches_tracked: Tensor | None = None
        if track_running_stats:
            self.running_mean = torch.zeros(channels, device=device, dtype=dtype)
            self.running_var = torch.ones(channels, device=device, dtype=dtype)
            self.num_batches_tracked = torch.zeros((), device=device, dtype=torch.int64)

    def reset_running_stats(self) -> None:
        """Forget the running averages: mean 0, variance 1, no batch yet."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with no_record():
                self.running_mean.zero_()
                self.running_var.fill_(1)
                self.num_batches_tracked.zero_()

    def _needs(self, input_gradient: bool) -> tuple[bool, bool, bool]:
        """Which of dx, dweight and dbias are needed."""
        weight, bias = self.weight, self.bias
        return input_gradient, weight is not None and weight.requires_grad, bias is not None and bias.requires_grad

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )
