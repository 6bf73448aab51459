"""What networks of images have in common: they say what an image is, before a layer inside does."""

from typing import Any

from ds_core import Sequential, ShapeError
from torch import Tensor

# N = batch, C = channels of the image, H, W = its size


def check_images(owner: str, x: Tensor, channels: int) -> None:
    """Raise `ShapeError`, naming the network, unless `x` is (N, C, H, W)."""
    if x.dim() != 4 or x.shape[1] != channels:
        mend = ": add the batch dimension with .unsqueeze(0)" if x.dim() == 3 else ""
        raise ShapeError(
            f"{owner}: given input of shape {tuple(x.shape)}, expected a batch of images (N, {channels}, H, W){mend}"
        )


class ImageNetwork(Sequential):
    """A `Sequential` of images (N, C, H, W).

    Args:
        channels: C.
        layers: by name.

    Raises:
        ShapeError: from `forward`, for an input of another number of dimensions or channels.
    """

    def __init__(self, channels: int, layers: dict[str, Any]) -> None:
        super().__init__(layers)
        self.channels = channels

    def forward(self, input: Tensor) -> Any:
        check_images(type(self).__name__, input, self.channels)
        return super().forward(input)
