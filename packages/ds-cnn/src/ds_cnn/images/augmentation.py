"""Changes at random that leave an image's class as it is. Theory: docs/augmentation.md."""

from typing import Protocol, runtime_checkable

import torch
from ds_core import ShapeError
from torch import Tensor

from ds_cnn.padding.pad import pad

# n = images of a batch, C = channels, H, W = height and width, P = padding


@runtime_checkable
class Augmentation(Protocol):
    """What `Augmented` applies to every batch, in two steps: what to do is drawn first, then it is done.

    A process that holds some of a batch's images draws for all of them and applies what is drawn for its own.
    """

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """One draw (count, ...) for each image of shape (C, H, W), on the CPU."""
        ...

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Images (n, C, H, W), changed as was drawn for them; what is given stays as it is."""
        ...


class RandomHorizontalFlip:
    """Mirrors an image left to right, with the probability `p`.

    Raises:
        ValueError: `p` is not from 0 to 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: given p={p}, expected 0 to 1")
        self.p = p

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Whether each is flipped, (count,) bool."""
        return torch.rand(count, generator=generator) < self.p

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, C, H, W)."""
        flips = drawn.view(-1, 1, 1, 1)
        return torch.where(flips, images.flip(3), images)  # y[n, c, h, w] = x[n, c, h, W - 1 - w]       (1)

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip(p={self.p})"


class RandomCrop:
    """Puts a frame of `padding` pixels around an image and cuts a window out of it, anywhere, each place as likely.

    Args:
        size: height and width of the window; None: as large as the image.
        padding: the width of the frame.
        fill: the value of the frame's pixels.

    Raises:
        ValueError: a size below 1 or a padding below 0.
    """

    def __init__(self, size: int | tuple[int, int] | None = None, padding: int = 0, fill: float = 0) -> None:
        sides = (size, size) if isinstance(size, int) else size
        if (sides is not None and (len(sides) != 2 or min(sides) < 1)) or padding < 0:
            raise ValueError(
                f"RandomCrop: given size={size} and padding={padding}, expected (height, width) of at least 1, or "
                "None, and at least 0"
            )
        self.size = sides
        self.padding = padding
        self.fill = fill

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """The first row and column of each window, (count, 2) int64.

        Raises:
            ShapeError: a window that is larger than the padded image.
        """
        height, width = self._window(shape)
        down, right = (side + 2 * self.padding - cut for side, cut in zip(shape[1:], (height, width), strict=True))
        if min(down, right) < 0:
            raise ShapeError(
                f"{self}: given images of shape {tuple(shape)}, expected sides of at least {height} and {width} with "
                f"the padding, {self.padding} on each side"
            )
        # a ~ uniform {0, ..., H + 2 P - h}, b ~ uniform {0, ..., W + 2 P - w}                            (2)
        return torch.stack([torch.randint(down + 1, (count,), generator=generator) for down in (down, right)], 1)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, C, h, w)."""
        h, w = self._window(images.shape[1:])
        padded = pad(images, (self.padding,) * 4, value=self.fill)
        # all windows are views, of which one for each image is copied: y[n, c, i, j] = x[n, c, a_n + i, b_n + j] (3)
        windows = padded.unfold(2, h, 1).unfold(3, w, 1)
        return windows[torch.arange(len(images), device=images.device), :, drawn[:, 0], drawn[:, 1]]

    def _window(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return (shape[1], shape[2]) if self.size is None else self.size

    def __repr__(self) -> str:
        return f"RandomCrop(size={self.size}, padding={self.padding})"
