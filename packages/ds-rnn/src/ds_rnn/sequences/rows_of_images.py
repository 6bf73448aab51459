"""An image as a sequence of its rows, or of its pixels. Theory: docs/rows_of_images.md."""

from ds_core import Module
from torch import Tensor

# N = images, C = channels, H, W = height and width


class RowsOfImages(Module):
    """Images (N, C, H, W) -> sequences (N, H, C W): a row of pixels at each step, from the top.

    Args:
        pixels: whether each pixel is a step, row by row, (N, H W, C): the same image as a much longer sequence.
    """

    def __init__(self, pixels: bool = False) -> None:
        self.pixels = pixels

    def forward(self, input: Tensor) -> Tensor:
        self.save(input.shape)
        if self.pixels:
            return input.movedim(1, 3).flatten(1, 2)  # y_(iW + j, c) = x_cij                               (2)
        return input.movedim(1, 2).flatten(2)  # y_(i, cW + j) = x_cij                                      (1)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy in the form of the output -> (N, C, H, W)."""
        (shape,) = self.saved()
        if dy is None:
            return None
        count, channels, height, width = shape
        if self.pixels:
            return dy.reshape(count, height, width, channels).movedim(3, 1)
        return dy.reshape(count, height, channels, width).movedim(2, 1)

    def extra_repr(self) -> str:
        return "pixels=True" if self.pixels else ""
