"""Dropout of whole channels. Theory: docs/dropout2d.md."""

import warnings
from typing import ClassVar

from ds_core import Dropout, ShapeError
from ds_core.layers.dropout import draw_dropout_mask, dropout
from torch import Tensor

# N = batch, C = channels


class Dropout1d(Dropout):
    """y = x r, one r for each channel of each example: 0 with probability p, otherwise 1 / (1 - p).

    Tompson et al., "Efficient Object Localization Using Convolutional Networks", 2015. Neighbouring positions of a
    channel are alike, so that single ones dropped are not missed. x is (N, C, L), or (C, L) without batch. Twin of
    torch.nn.Dropout1d, `inplace` left out; the draws are not those that PyTorch makes from the same seed.

    Args:
        p: probability of zero, 0 ... 1.

    Raises:
        TypeError: where p is no number.
        ValueError: where p is outside 0 ... 1.
        ShapeError: from `forward`, for an input of another number of dimensions.
    """

    axes: ClassVar[int] = 1  # how many dimensions come after C

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...) -> y of the same shape."""
        self._check_input(input)
        if not self.training or self.p == 0:
            self.save(None)
            return input
        channels = self._channels(input)
        dropout_mask = draw_dropout_mask(input.new_empty((*channels, *[1] * (input.dim() - len(channels)))), self.p)
        self.save(dropout_mask)
        return dropout(input, dropout_mask)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() not in (2, 3):
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, C, L) or (C, L)")

    def _channels(self, x: Tensor) -> tuple[int, ...]:
        """The leading sizes of x that have an r of their own: (N, C), or (C,) without batch."""
        return tuple(x.shape[:2] if x.dim() == self.axes + 2 else x.shape[:1])


class Dropout2d(Dropout1d):
    """`Dropout1d` of images (N, C, H, W). Twin of torch.nn.Dropout2d.

    As there, an input of three dimensions is taken for (N, C, L), with a warning, and one of another number of
    dimensions for (N, C, ...), with a warning too.

    Raises:
        ShapeError: from `forward`, for an input of less than 2 dimensions.
    """

    axes: ClassVar[int] = 2

    def _check_input(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, C, H, W)")
        if x.dim() == 3:
            message = "taken for (N, C, L): use Dropout1d for that, or add a batch dimension to an image"
            warnings.warn(f"{self!r}: given input of shape {tuple(x.shape)}, {message}", stacklevel=3)
        elif x.dim() != 4:
            warnings.warn(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, C, H, W)", stacklevel=3)

    def _channels(self, x: Tensor) -> tuple[int, ...]:
        return tuple(x.shape[:2])


class Dropout3d(Dropout1d):
    """`Dropout1d` of volumes (N, C, D, H, W) or (C, D, H, W). Twin of torch.nn.Dropout3d.

    As there, an input of another number of dimensions is taken for (C, ...), with a warning.

    Raises:
        ShapeError: from `forward`, for an input of no dimension.
    """

    axes: ClassVar[int] = 3

    def _check_input(self, x: Tensor) -> None:
        if x.dim() < 1:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, C, D, H, W)")
        if x.dim() not in (4, 5):
            warnings.warn(f"{self!r}: given input of shape {tuple(x.shape)}, expected (N, C, D, H, W)", stacklevel=3)
