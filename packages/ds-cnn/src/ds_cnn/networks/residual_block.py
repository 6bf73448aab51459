"""The two blocks that residual networks are made of. Theory: docs/residual_block.md."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ds_core import Module, ReLU, Sequential
from ds_core.engine.composition import backward_through, backward_without_input
from ds_core.layers.residual_branch import add_branch, add_skip
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d
from ds_cnn.normalisation.frozen_batch_norm2d import FrozenBatchNorm2d

# N = batch, C = in_channels, O = out_channels, R = reduced channels, s = stride


class ResidualBlock(Module):
    """z = max(f(x) + h(x), 0): a branch f of convolutions and a shortcut h; what both blocks share.

    He et al., "Deep Residual Learning for Image Recognition", 2015, equations 1 and 2. h is x itself, or `downsample`
    where the shape changes. A subclass says which layers f has, in `branch`, by the names that torchvision gives them.
    """

    relu: ReLU
    downsample: Any

    def branch(self) -> Sequence[Any]:
        """The layers of f, in the order of their calls."""
        raise NotImplementedError(f"{type(self).__name__} has no branch")

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> z (N, O, H/s, W/s)."""
        *_, last = layers = self.branch()
        y = x
        for layer in layers:
            y = layer.forward(y)
        skip = x if self.downsample is None else self.downsample.forward(x)
        # a norm of one's own may keep its output, which must then not be written to
        new = type(last) in (BatchNorm2d, FrozenBatchNorm2d)
        z: Tensor = self.relu.forward(add_branch(skip, y, new))  # z = max(f(x) + h(x), 0)                      (1)
        return z

    def backward(self, dz: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dz (N, O, H/s, W/s) -> dx (N, C, H, W), or None without `input_gradient`."""
        dsum = self.relu.backward(dz)  # du = dz [u > 0] with u = f(x) + h(x)                                   (2)
        if not input_gradient:
            if self.downsample is not None:
                backward_without_input(self.downsample, dsum)
            return backward_through(self.branch(), dsum, input_gradient=False)  # type: ignore[no-any-return]
        dskip = dsum if self.downsample is None else self.downsample.backward(dsum)  # h'(x)^T du
        return add_skip(dskip, backward_through(self.branch(), dsum))  # dx = h'(x)^T du + f'(x)^T du           (3)


class BasicBlock(ResidualBlock):
    """f is two 3x3 convolutions with a norm each, ReLU between them: the block of ResNet-18 and -34.

    He et al., 2015, figure 5 left. Parameters by torchvision's names: `conv1`, `bn1`, `conv2`, `bn2`, and `downsample`
    (a 1x1 convolution and a norm) if the shape changes.

    Args:
        in_channels: C.
        out_channels: O.
        stride: s, of the first convolution and of the shortcut.
        norm: makes a norm of so many channels, given `device` and `dtype`.
        downsample: the shortcut, a layer (N, C, H, W) -> (N, O, H/s, W/s); by default a projection where it is needed.
        generator: where the initial kernels are drawn from.

    Raises:
        ShapeError: from `forward`, if the input or the results of f and h do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        norm: Callable[..., Any] = BatchNorm2d,
        downsample: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        drawn: dict[str, Any] = {**made, "generator": generator, "bias": False}
        if downsample is None and needs_projection(in_channels, out_channels, stride):
            downsample = projection(in_channels, out_channels, stride, norm, made, drawn)
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, **drawn)
        self.bn1 = norm(out_channels, **made)
        self.relu = ReLU()
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, **drawn)
        self.bn2 = norm(out_channels, **made)
        self.downsample = downsample

    def branch(self) -> Sequence[Any]:
        return [self.conv1, self.bn1, self.relu, self.conv2, self.bn2]


class Bottleneck(ResidualBlock):
    """f is a 1x1, a 3x3 and a 1x1 convolution with a norm each, narrow in the middle: the block of ResNet-50 and up.

    He et al., 2015, figure 5 right. Parameters by torchvision's names: `conv1`, `bn1` ... `conv3`, `bn3`, and
    `downsample` (a 1x1 convolution and a norm) if the shape changes.

    Args:
        in_channels, out_channels, stride, norm, downsample, generator: as in `BasicBlock`.
        reduction: R = O / reduction, rounded down, is the width of the middle.
        downsample_in_bottleneck: whether the stride is that of the first convolution, as in the paper, or that of the
            second, as in torchvision and in most published weights ("ResNet v1.5").

    Raises:
        ValueError: a reduction that leaves no channel.
        ShapeError: from `forward`, if the input or the results of f and h do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        reduction: int = 4,
        downsample_in_bottleneck: bool = False,
        norm: Callable[..., Any] = BatchNorm2d,
        downsample: Any = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if not 1 <= reduction <= out_channels:
            raise ValueError(f"Bottleneck: given reduction={reduction}, expected 1 to {out_channels}, the out_channels")
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        drawn: dict[str, Any] = {**made, "generator": generator, "bias": False}
        if downsample is None and needs_projection(in_channels, out_channels, stride):
            downsample = projection(in_channels, out_channels, stride, norm, made, drawn)
        width = out_channels // reduction
        first, second = (stride, 1) if downsample_in_bottleneck else (1, stride)
        self.conv1 = Conv2d(in_channels, width, 1, first, **drawn)
        self.bn1 = norm(width, **made)
        self.conv2 = Conv2d(width, width, 3, second, padding=1, **drawn)
        self.bn2 = norm(width, **made)
        self.conv3 = Conv2d(width, out_channels, 1, **drawn)
        self.bn3 = norm(out_channels, **made)
        self.relu = ReLU()
        self.downsample = downsample

    def branch(self) -> Sequence[Any]:
        return [self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu, self.conv3, self.bn3]


def needs_projection(in_channels: int, out_channels: int, stride: int) -> bool:
    """Whether x cannot be added as it is."""
    return in_channels != out_channels or stride != 1


def projection(
    in_channels: int,
    out_channels: int,
    stride: int,
    norm: Callable[..., Any],
    made: dict[str, Any],
    drawn: dict[str, Any],
) -> Sequential:
    """The paper's option B, a 1x1 convolution and a norm: (N, C, H, W) -> (N, O, H/s, W/s)."""
    return Sequential(Conv2d(in_channels, out_channels, 1, stride, **drawn), norm(out_channels, **made))
