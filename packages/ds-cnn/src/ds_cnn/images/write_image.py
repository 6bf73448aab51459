"""Tensors as PNG files, many images side by side as one."""

import os
from pathlib import Path

import torch
from ds_core import ShapeError
from ds_core.arguments import check_tensors
from ds_core.atomic_files import write_atomically
from ds_core.errors import needs_extra
from torch import Tensor

# N = images, C = channels, H, W = height and width, P = positions of the grid


def write_image(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: the file; its folder must exist.
        image: (C, H, W) of 1 or 3 channels, or (H, W): uint8, or floating with 0 for black and 1 for white. What lies
            outside of these is clipped.

    Raises:
        ShapeError: another shape or dtype, no pixels, or NaN.
        WriteError: the file cannot be written; what it held is still there.
        MissingPackageError: Pillow is not installed.
    """
    with needs_extra("images", "writing images", package="ds-cnn"):
        from PIL import Image
    check_tensors("write_image", image=image)
    pixels = image.unsqueeze(0) if image.dim() == 2 else image
    if pixels.dim() != 3 or pixels.shape[0] not in (1, 3) or pixels.numel() == 0:
        raise ShapeError(f"write_image: given shape {tuple(image.shape)}, expected (1 or 3, H, W) or (H, W)")
    bytes_of_pixels = _bytes(pixels.detach()).cpu().permute(1, 2, 0).contiguous().numpy().tobytes()
    mode = "L" if pixels.shape[0] == 1 else "RGB"
    drawn = Image.frombytes(mode, (pixels.shape[2], pixels.shape[1]), bytes_of_pixels)
    write_atomically(Path(path), lambda temporary: drawn.save(temporary, format="PNG"))


def _bytes(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        raise ShapeError(f"write_image: given {pixels.dtype}, expected uint8 or a floating dtype")
    if bool(torch.isnan(pixels).any()):
        raise ShapeError("write_image: given NaN, expected numbers of 0 to 1")
    return (pixels.float().clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)


def image_grid(images: Tensor, columns: int, *, gap: int = 1, background: float = 0) -> Tensor:
    """Images (N, C, H, W) side by side, row by row, as one (C, R (H + gap) + gap, columns (W + gap) + gap).

    R = N / columns, rounded up; `background` fills the gaps between images, around them and after the last one.

    Raises:
        ShapeError: no images, or another shape.
        ValueError: `columns` below 1, `gap` below 0, or a background that the dtype does not hold.
    """
    check_tensors("image_grid", images=images)
    if images.dim() != 4 or images.numel() == 0:
        raise ShapeError(
            f"image_grid: given shape {tuple(images.shape)}, expected (N, C, H, W) with one image at least"
        )
    if columns < 1 or gap < 0:
        raise ValueError(f"image_grid: given columns={columns} and gap={gap}, expected at least 1 and 0")
    if images.dtype == torch.uint8 and background not in range(256):
        raise ValueError(f"image_grid: given background={background} for uint8, expected a whole number of 0 to 255")
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = images.new_full((rows * columns, channels, height + gap, width + gap), background)
    cells[:count, :, gap:, gap:] = images
    cells = cells.view(rows, columns, *cells.shape[1:]).permute(2, 0, 3, 1, 4)  # (C, R, H + gap, columns, W + gap)
    grid = images.new_full((channels, rows * (height + gap) + gap, columns * (width + gap) + gap), background)
    grid[:, : rows * (height + gap), : columns * (width + gap)] = cells.reshape(
        channels, rows * (height + gap), columns * (width + gap)
    )
    return grid


def stretch_contrast(images: Tensor) -> Tensor:
    """Images (N, ...) of any range, such as filters and feature maps, each brought to 0 to 1 -> floating (N, ...).

    The smallest number of an image becomes 0, its largest 1. An image of one colour becomes 0.5 everywhere.

    Raises:
        ShapeError: a tensor without dimensions or without numbers.
    """
    check_tensors("stretch_contrast", images=images)
    if images.dim() < 2 or images.numel() == 0:
        raise ShapeError(f"stretch_contrast: given shape {tuple(images.shape)}, expected (N, ...) with numbers in it")
    images = images if images.is_floating_point() else images.to(torch.get_default_dtype())
    inside = tuple(range(1, images.dim()))
    least, largest = images.amin(inside, keepdim=True), images.amax(inside, keepdim=True)
    flat = largest == least
    return torch.where(flat, 0.5, (images - least) / torch.where(flat, 1.0, largest - least))
