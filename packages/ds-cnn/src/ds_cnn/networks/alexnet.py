"""AlexNet's small cousin, for images of 32x32 and for digits. Theory: docs/alexnet.md."""

from typing import Any

import torch
from ds_core import Dropout, Flatten, Linear, ReLU
from ds_core.arguments import whole_number

from ds_cnn.convolutions.conv import Conv2d
from ds_cnn.convolutions.kernel_initialisation import initialise_kernels
from ds_cnn.networks.image_network import ImageNetwork
from ds_cnn.pooling.max_pool import MaxPool2d

# N = batch, S = image_size

_SMALLEST = 8  # halved three times it must leave a pixel
_WIDTHS = (96, 256, 384, 384, 256)  # of the paper's five convolutions
_HIDDEN = 4096  # of its linear layers


class SmallAlexNet(ImageNetwork):
    """Five convolutions, three poolings, two hidden linear layers with dropout: (N, C, S, S) -> (N, K).

    After Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012: its depth and the
    proportions of its widths, with kernels and steps for small images.

    Args:
        num_classes: K, how many logits.
        channels: C, of the image: 3, or 1 for digits.
        image_size: S, height and width of the images, at least 8.
        shrink: what the paper's widths (96 ... 384 filters, 4096 hidden units) are divided by.
        dropout: before each of the hidden linear layers, as in the paper.

    Raises:
        TypeError, ValueError: an image size below 8, a `shrink` that leaves no filter, a dropout outside 0 to 1, or a
            number that is no whole one of 1 or more.
        ShapeError: from `forward`, for an input that is no (N, channels, H, W) of this size.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 3,
        image_size: int = 32,
        *,
        shrink: int = 4,
        dropout: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        num_classes = whole_number("SmallAlexNet", "num_classes", num_classes)
        channels = whole_number("SmallAlexNet", "channels", channels)
        image_size = whole_number("SmallAlexNet", "image_size", image_size)
        if image_size < _SMALLEST:
            raise ValueError(f"SmallAlexNet: given image_size={image_size}, expected at least {_SMALLEST}")
        if not 1 <= shrink <= min(_WIDTHS):
            raise ValueError(f"SmallAlexNet: given shrink={shrink}, expected 1 to {min(_WIDTHS)}")
        widths, hidden = [width // shrink for width in _WIDTHS], _HIDDEN // shrink
        side = image_size // 2 // 2 // 2
        made: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        super().__init__(
            channels,
            {
                "conv1": Conv2d(channels, widths[0], 5, padding=2, **made),
                "act1": ReLU(),
                "pool1": MaxPool2d(2),
                "conv2": Conv2d(widths[0], widths[1], 5, padding=2, **made),
                "act2": ReLU(),
                "pool2": MaxPool2d(2),
                "conv3": Conv2d(widths[1], widths[2], 3, padding=1, **made),
                "act3": ReLU(),
                "conv4": Conv2d(widths[2], widths[3], 3, padding=1, **made),
                "act4": ReLU(),
                "conv5": Conv2d(widths[3], widths[4], 3, padding=1, **made),
                "act5": ReLU(),
                "pool3": MaxPool2d(2),
                "flatten": Flatten(),
                "dropout1": Dropout(dropout),
                "fc1": Linear(widths[4] * side * side, hidden, **made),
                "act6": ReLU(),
                "dropout2": Dropout(dropout),
                "fc2": Linear(hidden, hidden, **made),
                "act7": ReLU(),
                "fc3": Linear(hidden, num_classes, **made),
            },
        )
        initialise_kernels(self, generator=generator)
