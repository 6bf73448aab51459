"""LeNet-5, the network that read cheques. Theory: docs/lenet.md."""

from collections.abc import Callable
from typing import Any

import torch
from ds_core import Flatten, Linear, ReLU
from ds_core.arguments import whole_number

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.convolutions.kernel_initialisation import initialise_kernels
from ds_cnn.networks.image_network import ImageNetwork
from ds_cnn.pooling.max_pool import MaxPool2d

# N = batch, S = image_size

_SMALLEST = 12  # S - 4 or S halved twice must leave a window of 5


class LeNet5(ImageNetwork):
    """Two convolutions with pooling, then three linear layers: an image (N, channels, S, S) -> logits (N, num_classes).

    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, section II.B. Images smaller than
    the paper's 32x32 are padded by 2 in the first convolution, so that digits of 28x28 have the paper's sizes behind
    it, and 61,706 parameters. Docs/lenet.md says what has become usual since, and is the default here.

    Args:
        num_classes: how many logits.
        channels: of the image: 1, or 3 for colours.
        image_size: S, height and width of the images.
        activation: makes the layer behind every convolution and linear layer; `Tanh` is the paper's, up to a scale.
        pool: makes a pooling layer of the size that it is given; `AvgPool2d` is the paper's, up to a weight.

    Raises:
        TypeError, ValueError: an image size below 12, or a number that is no whole one of 1 or more.
        ShapeError: from `forward`, for an input that is no (N, channels, H, W) of this size.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 1,
        image_size: int = 28,
        *,
        activation: Callable[[], Any] = ReLU,
        pool: Callable[[int], Any] = MaxPool2d,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        num_classes = whole_number("LeNet5", "num_classes", num_classes)
        channels = whole_number("LeNet5", "channels", channels)
        image_size = whole_number("LeNet5", "image_size", image_size)
        if image_size < _SMALLEST:
            raise ValueError(f"LeNet5: given image_size={image_size}, expected at least {_SMALLEST}")
        padding = 2 if image_size < 32 else 0
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2  # behind both convolutions and poolings
        made: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        super().__init__(
            channels,
            {
                "conv1": Conv2d(channels, 6, 5, padding=padding, **made),
                "act1": activation(),
                "pool1": pool(2),
                "conv2": Conv2d(6, 16, 5, **made),
                "act2": activation(),
                "pool2": pool(2),
                "flatten": Flatten(),
                "fc1": Linear(16 * side * side, 120, **made),
                "act3": activation(),
                "fc2": Linear(120, 84, **made),
                "act4": activation(),
                "fc3": Linear(84, num_classes, **made),
            },
        )
        initialise_kernels(self, generator=generator)
