"""VGG: stacks of 3x3 convolutions, written as a list. Theory: docs/vgg.md."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from ds_core import Dropout, Flatten, Linear, ReLU, Sequential
from ds_core.arguments import whole_number

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.convolutions.kernel_initialisation import initialise_kernels
from ds_cnn.networks.image_network import ImageNetwork
from ds_cnn.normalisation.batch_norm2d import BatchNorm2d
from ds_cnn.pooling.adaptive_avg_pool import AdaptiveAvgPool2d
from ds_cnn.pooling.max_pool import MaxPool2d

# N = batch, S = size of the image

# Filters of each convolution; "M" is a pooling that halves the image
Configuration = Sequence[int | Literal["M"]]
SMALL_VGG: Configuration = (32, 32, "M", 64, 64, "M", 128, 128, "M")
# Columns A, B, D and E of the paper's table 1
VGG11: Configuration = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG13: Configuration = (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG16: Configuration = (*VGG13[:8], 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
VGG19: Configuration = (*VGG13[:8], 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")


class VGG(ImageNetwork):
    """3x3 convolutions with batch norm, pooling between them, the mean over what is left: (N, C, S, S) -> (N, K).

    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, with batch norm
    (Ioffe and Szegedy, 2015) and one linear layer on the mean over all positions (Lin et al., "Network in Network",
    2013) in the place of three on the flattened image: so any S is taken that is not pooled away.

    Args:
        configuration: the filters of each convolution in turn, and "M" for a pooling that halves the image:
            `SMALL_VGG`, the paper's `VGG11`, `VGG13`, `VGG16`, `VGG19`, or a list of your own.
        num_classes: K, how many logits.
        channels: C, of the image: 3, or 1 for digits.
        dropout: before the linear layer.

    Raises:
        TypeError, ValueError: a configuration without a convolution, or with something else in it; a dropout outside 0
            to 1; a number of classes or channels that is no whole one of 1 or more.
        ShapeError: from `forward`, for an input that is no (N, channels, H, W).
    """

    def __init__(
        self,
        configuration: Configuration = SMALL_VGG,
        num_classes: int = 10,
        channels: int = 3,
        *,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        _check(configuration)
        num_classes = whole_number("VGG", "num_classes", num_classes)
        channels = whole_number("VGG", "channels", channels)
        image_channels = channels
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[Any] = []
        for item in configuration:
            if isinstance(item, str):
                layers.append(MaxPool2d(2))
            else:
                # no bias: the norm behind it would take it away again
                convolution = Conv2d(channels, item, 3, padding=1, bias=False, generator=generator, **made)
                layers += [convolution, BatchNorm2d(item, **made), ReLU()]
                channels = item
        super().__init__(
            image_channels,
            {
                "features": Sequential(*layers),
                "pool": AdaptiveAvgPool2d(1),
                "flatten": Flatten(),
                "dropout": Dropout(dropout),
                "classifier": Linear(channels, num_classes, generator=generator, **made),
            },
        )
        initialise_kernels(self, generator=generator)


def _check(configuration: Configuration) -> None:
    for item in configuration:
        if item != "M" and (isinstance(item, (bool, str)) or not isinstance(item, int) or item < 1):
            raise ValueError(f"VGG: given {item!r} in the configuration, expected a number of filters or 'M'")
    if all(item == "M" for item in configuration):
        raise ValueError(f"VGG: given the configuration {list(configuration)}, expected at least one convolution")
