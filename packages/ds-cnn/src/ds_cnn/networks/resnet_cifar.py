"""ResNet-20, -32 and -56 for images of 32x32, as the paper has them. Theory: docs/resnet_cifar.md."""

from typing import Any

import torch
from ds_core import Flatten, Linear, Module, ReLU, Sequential, ShapeError
from ds_core.arguments import whole_number
from ds_core.initializers import kaiming_normal_
from torch import Tensor

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.networks.image_network import ImageNetwork
from ds_cnn.networks.residual_block import BasicBlock, needs_projection
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d
from ds_cnn.pooling.adaptive_avg_pool import AdaptiveAvgPool2d

# N = batch, C = in_channels, O = out_channels, s = stride, P, Q = the output's height and width

_WIDTHS = (16, 32, 64)


def subsample(x: Tensor, out_channels: int, stride: int) -> Tensor:
    """x (N, C, H, W) -> y (N, O, P, Q)."""
    seen = x[:, :, ::stride, ::stride]
    y = x.new_zeros(x.shape[0], out_channels, *seen.shape[2:])
    y[:, : x.shape[1]] = seen  # y_ncpq = x_nc,sp,sq for c < C, and 0 for the channels from C on               (1)
    return y


def subsample_backward(dy: Tensor, input_shape: torch.Size, stride: int) -> Tensor:
    """dy (N, O, P, Q), input_shape (N, C, H, W) -> dx (N, C, H, W)."""
    dx = dy.new_zeros(input_shape)
    dx[:, :, ::stride, ::stride] = dy[:, : input_shape[1]]  # dx_nc,sp,sq = dy_ncpq, and 0 between              (2)
    return dx


class SubsampledShortcut(Module):
    """Every s-th pixel of x, and zeros for the channels that x lacks: a shortcut without parameters.

    He et al., "Deep Residual Learning for Image Recognition", 2015, section 3.3, option A. Keeps the shape of x alone.

    Args:
        in_channels: C.
        out_channels: O, at least C.
        stride: s.

    Raises:
        ValueError: fewer channels out than in.
        ShapeError: from `forward`, if x is not (N, C, H, W).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        if out_channels < in_channels:
            raise ValueError(f"SubsampledShortcut: given {in_channels} channels, which do not go into {out_channels}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> y (N, O, P, Q)."""
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, {self.in_channels}, H, W)")
        self.save(x.shape)
        return subsample(x, self.out_channels, self.stride)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy (N, O, P, Q) -> dx (N, C, H, W)."""
        (shape,) = self.saved()
        return None if dy is None else subsample_backward(dy, shape, self.stride)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


class CifarResNet(ImageNetwork):
    """A 3x3 convolution, three stages of n basic blocks (16, 32 and 64 channels), the mean, a linear layer.

    He et al., 2015, section 4.2: depth 6n + 2, with shortcuts that have no parameters. Images (N, channels, H, W), of
    32x32 in the paper, and of any size -> logits (N, num_classes).

    Args:
        depth: 20, 32, 44, 56, 110, or any other 6n + 2.
        num_classes: how many logits.
        channels: of the image: 3, or 1 for digits.
        generator: where the initial weights are drawn from.

    Raises:
        TypeError, ValueError: another depth; a number of classes or channels that is no whole one of 1 or more.
        ShapeError: from `forward`, for an input that is no (N, channels, H, W).
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        channels: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        depth = whole_number("CifarResNet", "depth", depth)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"CifarResNet: given depth={depth}, expected 6n + 2: 8, 14, 20, 32, 44, 56, 110, ...")
        num_classes = whole_number("CifarResNet", "num_classes", num_classes)
        channels = whole_number("CifarResNet", "channels", channels)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        width = _WIDTHS[0]
        layers: dict[str, Any] = {
            "conv1": Conv2d(channels, width, 3, padding=1, bias=False, generator=generator, **made),
            "bn1": BatchNorm2d(width, **made),
            "relu": ReLU(),
        }
        for number, out in enumerate(_WIDTHS, start=1):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if number > 1 and index == 0 else 1
                shortcut = SubsampledShortcut(width, out, stride) if needs_projection(width, out, stride) else None
                blocks.append(BasicBlock(width, out, stride, downsample=shortcut, generator=generator, **made))
                width = out
            layers[f"layer{number}"] = Sequential(*blocks)
        layers |= {"avgpool": AdaptiveAvgPool2d(1), "flatten": Flatten()}
        super().__init__(channels, {**layers, "fc": Linear(width, num_classes, generator=generator, **made)})
        for module in self.modules():
            if isinstance(module, Conv2d):
                # section 4.2: "the weight initialization in [13]", by the inputs of each kernel
                kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)


def resnet20(num_classes: int = 10, channels: int = 3, **options: Any) -> CifarResNet:
    """ResNet-20 for 32x32, 0.27 million parameters; `options` are those of `CifarResNet`."""
    return CifarResNet(20, num_classes, channels, **options)


def resnet32(num_classes: int = 10, channels: int = 3, **options: Any) -> CifarResNet:
    """ResNet-32 for 32x32, 0.46 million parameters; `options` are those of `CifarResNet`."""
    return CifarResNet(32, num_classes, channels, **options)


def resnet56(num_classes: int = 10, channels: int = 3, **options: Any) -> CifarResNet:
    """ResNet-56 for 32x32, 0.85 million parameters; `options` are those of `CifarResNet`."""
    return CifarResNet(56, num_classes, channels, **options)
