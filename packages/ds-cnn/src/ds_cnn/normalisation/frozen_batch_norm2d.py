"""Batch norm whose numbers stand still: a scale and a shift by channel. Theory: docs/frozen_batch_norm2d.md."""

from typing import Any, ClassVar, Literal

import torch
from ds_core import Module, ShapeError, SyncBatchNorm, fast_form
from ds_core.arguments import check_implementation, real_number, whole_number
from ds_core.layers.channels import along_channels, channelwise, positions, scaled
from ds_core.layers.replace_layers import replace_layers
from ds_core.speed.precision import wide_dtype, widened
from torch import Tensor

from ds_cnn.normalisation.batch_norm2d import BatchNorm2d

# N = batch, C = channels


def plain_frozen_batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x (N, C, ...), scale, shift (C,) -> y of the shape of x, number by number."""
    y = torch.zeros_like(x)
    for c in range(x.shape[1]):
        for n in positions(x, c):
            y[n] = x[n].to(wide_dtype(x)) * scale[c] + shift[c]  # y_nc = x_nc s_c + t_c                           (2)
    return y


def plain_frozen_batch_norm_backward(dy: Tensor, scale: Tensor) -> Tensor:
    """dy (N, C, ...), scale (C,) -> dx of the shape of dy, number by number."""
    dx = torch.zeros_like(dy)
    for c in range(dy.shape[1]):
        for n in positions(dy, c):
            dx[n] = dy[n] * scale[c]  # dx_nc = dy_nc s_c                                                          (3)
    return dx


# All channels at once, on a CPU chunk by chunk.
@fast_form(plain_frozen_batch_norm)
def frozen_batch_norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x (N, C, ...), scale, shift (C,) -> y of the shape of x."""
    wide = widened(scale), widened(shift)
    return channelwise(lambda x, out: scaled(x, *wide, out), x)  # y_nc = x_nc s_c + t_c                           (2)


@fast_form(plain_frozen_batch_norm_backward)
def frozen_batch_norm_backward(dy: Tensor, scale: Tensor) -> Tensor:
    """dy (N, C, ...), scale (C,) -> dx of the shape of dy."""
    along = along_channels(widened(scale), dy)
    return channelwise(lambda dy, out: torch.mul(dy, along, out=out), dy)  # dx_nc = dy_nc s_c                     (3)


IMPLEMENTATIONS = {
    "vectorized": (frozen_batch_norm, frozen_batch_norm_backward),
    "loops": (plain_frozen_batch_norm, plain_frozen_batch_norm_backward),
}


class FrozenBatchNorm2d(Module):
    """y = (x - running_mean) / sqrt(running_var + eps) * weight + bias, the same in training and in evaluation.

    Twin of torchvision.ops.FrozenBatchNorm2d: `weight`, `bias`, `running_mean` and `running_var` (C,) are buffers, so
    that no optimizer sees them, and a `num_batches_tracked` in a state_dict is passed over. x is (N, C, H, W). Keeps
    one number for each channel.

    Args:
        num_features: C, the second dimension of x.
        eps: added to the variance.
        implementation: "vectorized", or "loops", number by number as the formulas say, for reading.

    Raises:
        TypeError, ValueError: for a `num_features` that is no whole number of 0 or more, an `eps` that is no finite
            number, or an unknown implementation.
        ShapeError: from `forward`, where x is no (N, C, H, W).
        TypeError: from `forward`, where x holds integers.
    """

    unused_state: ClassVar[tuple[str, ...]] = ("num_batches_tracked",)  # of the batch norm that was trained

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: Literal["vectorized", "loops"] = "vectorized",
    ) -> None:
        check_implementation(self, implementation, IMPLEMENTATIONS)
        self.num_features = num_features = whole_number("FrozenBatchNorm2d", "num_features", num_features, least=0)
        self.eps = real_number("FrozenBatchNorm2d", "eps", eps)
        self.implementation = implementation
        self.weight = torch.ones(num_features, device=device, dtype=dtype)
        self.bias = torch.zeros(num_features, device=device, dtype=dtype)
        self.running_mean = torch.zeros(num_features, device=device, dtype=dtype)
        self.running_var = torch.ones(num_features, device=device, dtype=dtype)

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, H, W) -> y of the same shape."""
        if input.dim() != 4 or input.shape[1] != self.num_features:
            expected = f"(N, {self.num_features}, H, W)"
            raise ShapeError(f"{self!r}: given input of shape {tuple(input.shape)}, expected {expected}")
        if not input.is_floating_point():
            raise TypeError(f"{self!r}: given input of {input.dtype}, expected floating numbers")
        scale = widened(self.weight) * (widened(self.running_var) + self.eps).rsqrt()  # s = w / sqrt(v + eps)     (1)
        shift = widened(self.bias) - widened(self.running_mean) * scale  # t = b - mean s                          (1)
        self.save(scale)
        forward, _ = IMPLEMENTATIONS[self.implementation]
        return forward(input, scale, shift)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (scale,) = self.saved()
        _, backward = IMPLEMENTATIONS[self.implementation]
        return None if dy is None else backward(dy, scale)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


def freeze_batch_norm(model: Any) -> Any:
    """Replace every `BatchNorm2d` and `SyncBatchNorm` in `model`, which is changed, by a `FrozenBatchNorm2d`.

    Give the optimizer what `model.parameters()` holds afterwards: weights and biases of the norms are no part of it.

    Returns:
        `model`; or the frozen layer, if `model` itself is a batch norm.

    Raises:
        ValueError: a batch norm has no running statistics to freeze.
    """
    return replace_layers(model, (BatchNorm2d, SyncBatchNorm), _frozen)


def unfreeze_batch_norm(model: Any) -> Any:
    """Replace every `FrozenBatchNorm2d` in `model`, which is changed, by a `BatchNorm2d` of the same numbers.

    Its count of batches begins at 0, so that with `momentum=None` the first batch would replace the running statistics.
    """
    return replace_layers(model, FrozenBatchNorm2d, _unfrozen)


def _frozen(layer: Any) -> FrozenBatchNorm2d:
    if layer.running_mean is None or layer.running_var is None:
        raise ValueError(f"freeze_batch_norm: given {layer!r}, which has no running statistics to freeze")
    mean = layer.running_mean
    frozen = FrozenBatchNorm2d(layer.num_features, layer.eps, mean.device, mean.dtype)
    _copy_state(layer, frozen)
    return frozen


def _unfrozen(frozen: FrozenBatchNorm2d) -> BatchNorm2d:
    layer = BatchNorm2d(frozen.num_features, frozen.eps, device=frozen.weight.device, dtype=frozen.weight.dtype)
    _copy_state(frozen, layer)
    return layer


def _copy_state(source: Any, target: Any) -> None:
    target.load_state_dict(source.state_dict(), strict=False)  # what a norm without weights lacks stays ones and zeros
    target.train(source.training)
