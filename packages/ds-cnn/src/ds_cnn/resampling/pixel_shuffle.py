"""Channels laid out as pixels, and back: a change of order, no arithmetic. Theory: docs/pixel_shuffle.md."""

import torch
from ds_core import Module, ShapeError
from ds_core.arguments import check_tensors, whole_number
from einops import rearrange
from torch import Tensor

# C = channels of the image with more pixels, H, W = size of the one with fewer, r = factor


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """x (..., C r r, H, W) -> y (..., C, H r, W r). Errors: as those of `PixelShuffle`."""
    factor = whole_number("pixel_shuffle", "factor", factor)
    check_tensors("pixel_shuffle", x=x)
    _check_channels("pixel_shuffle", x, factor)
    # y_{c, hr + a, wr + b} = x_{(c r + a) r + b, h, w}                                                    (1)
    y = rearrange(x, "... (c a b) h w -> ... c h a w b", a=factor, b=factor)
    return rearrange(_copied(y), "... c h a w b -> ... c (h a) (w b)")


def pixel_unshuffle(x: Tensor, factor: int) -> Tensor:
    """x (..., C, H r, W r) -> y (..., C r r, H, W). Errors: as those of `PixelUnshuffle`."""
    factor = whole_number("pixel_unshuffle", "factor", factor)
    check_tensors("pixel_unshuffle", x=x)
    _check_sides("pixel_unshuffle", x, factor)
    # y_{(c r + a) r + b, h, w} = x_{c, hr + a, wr + b}                                                    (2)
    y = rearrange(x, "... c (h a) (w b) -> ... c a b h w", a=factor, b=factor)
    return rearrange(_copied(y), "... c a b h w -> ... (c a b) h w")


class PixelShuffle(Module):
    """r^2 channels become r x r pixels (Shi et al., "Efficient Sub-Pixel Convolutional Neural Network", 2016).

    Twin of torch.nn.PixelShuffle. Input (..., C r r, H, W), output (..., C, H r, W r).

    Args:
        upscale_factor: r.

    Raises:
        ValueError, TypeError: for a factor that is no int above 0.
        ShapeError: from `forward`, for channels that r^2 does not divide, or fewer than three dimensions.
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = whole_number("PixelShuffle", "upscale_factor", upscale_factor)

    def forward(self, input: Tensor) -> Tensor:
        _check_channels(self, input, self.upscale_factor)
        self.save()
        return pixel_shuffle(input, self.upscale_factor)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        self.saved()
        return None if dy is None else pixel_unshuffle(dy, self.upscale_factor)  # the inverse  (3)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """r x r pixels become r^2 channels: what undoes `PixelShuffle`.

    Twin of torch.nn.PixelUnshuffle. Input (..., C, H r, W r), output (..., C r r, H, W).

    Args:
        downscale_factor: r.

    Raises:
        ValueError, TypeError: for a factor that is no int above 0.
        ShapeError: from `forward`, for a height or width that r does not divide, or fewer than three dimensions.
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = whole_number("PixelUnshuffle", "downscale_factor", downscale_factor)

    def forward(self, input: Tensor) -> Tensor:
        _check_sides(self, input, self.downscale_factor)
        self.save()
        return pixel_unshuffle(input, self.downscale_factor)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        self.saved()
        return None if dy is None else pixel_shuffle(dy, self.downscale_factor)  # the inverse  (3)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


def _check_channels(owner: object, x: Tensor, factor: int) -> None:
    if x.dim() < 3 or x.shape[-3] % factor**2 != 0:
        expected = f"(..., C, H, W) with C divisible by {factor**2}"
        raise ShapeError(f"{owner}: given input of shape {tuple(x.shape)}, expected {expected}")


def _check_sides(owner: object, x: Tensor, factor: int) -> None:
    if x.dim() < 3 or any(size % factor != 0 for size in x.shape[-2:]):
        expected = f"(..., C, H, W) with H and W divisible by {factor}"
        raise ShapeError(f"{owner}: given input of shape {tuple(x.shape)}, expected {expected}")


def _copied(x: Tensor) -> Tensor:
    """In the order of its dimensions: the one copy, so that the result never shares the memory of the input."""
    return x.clone(memory_format=torch.contiguous_format)
