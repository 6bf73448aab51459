"""Tiles of images, their numbers at Winograd's points, and back. Theory: docs/winograd.md."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ds_cnn.convolutions.chunked import chunks_of_output, runs_in_chunks
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.winograd_transforms import MATRICES, both_axes

# N = batch, C = input channels, O = output channels, P = size of the output, t = outputs of a tile along an axis,
# r = t + 2 = points, T = tiles of the images that are computed at a time, T_h and T_w of one image along its axes.
# Channels are the last axis inside.

TILES = 3 * 2**17  # numbers of the transformed input at a time, by trial: they and the products stay in the cache


def transformed_weight(weight: Tensor, tile: int, turned: bool = False) -> Tensor:
    """weight (O, C, 3, 3) -> U (r^2, O, C): U = G w G^T; of the kernel turned round if `turned`."""
    kernel = both_axes(MATRICES[tile].kernel, weight)  # (r^2, 9)
    columns = weight.reshape(-1, 9).T  # (9, O C)
    kernel = kernel.flip(1) if turned else kernel
    if not runs_in_chunks(weight):
        return (kernel @ columns).view(len(kernel), *weight.shape[:2])
    points = weight.new_empty(len(kernel), *weight.shape[:2])
    for some, out in zip(torch.split(columns, 2**13, 1), torch.split(points.flatten(1), 2**13, 1), strict=True):
        torch.mm(kernel, some, out=out)  # U = G w G^T                                                       (8)
    return points


def weight_gradient_from_points(dpoints: Tensor, tile: int) -> Tensor:
    """dU (r^2, O, C) -> dweight (O, C, 3, 3): dw = G^T dU G."""
    kernel = both_axes(MATRICES[tile].kernel, dpoints).T  # (9, r^2)
    columns = dpoints.flatten(1)
    if not runs_in_chunks(dpoints):
        return (kernel @ columns).T.reshape(*dpoints.shape[1:], 3, 3)
    dweight = dpoints.new_empty(columns.shape[1], 9)
    for some, out in zip(torch.split(columns, 2**13, 1), torch.split(dweight, 2**13), strict=True):
        out.copy_((kernel @ some).T)
    return dweight.view(*dpoints.shape[1:], 3, 3)


def convolved_tiles(x: Tensor, weights: Tensor, bias: Tensor | None, padding: Sizes, tile: int) -> Tensor:
    """x (N, C, H, W), transformed weights (r^2, C, O) -> y (N, O, *P), in channels-last memory."""
    points, channels, filters = weights.shape
    size = output_sizes(x.shape[2:], (3, 3), (1, 1), padding, (1, 1))
    back = both_axes(MATRICES[tile].outputs, x).T  # (t^2, r^2)
    y = x.new_empty(len(x), *size, filters)
    for images, rows, across in tile_chunks(x, size, max(channels, filters), tile):
        products = torch.bmm(input_at_points(x[images], rows, across, padding, tile), weights)  # M = V U^T   (9)
        if bias is not None:
            # the row of A at the point 1 is all ones: what is added at (1, 1) arrives in every output
            products.view(tile + 2, tile + 2, -1, filters)[1, 1].add_(bias)
        tiles = (back @ products.view(points, -1)).view(tile, tile, -1, rows.stop - rows.start, across, filters)
        _lay_out(tiles, y[images, rows.start * tile : rows.stop * tile])  # Y = A^T M A                      (10)
    return y.movedim(-1, 1)


def _lay_out(tiles: Tensor, y: Tensor) -> None:
    """Write tiles (t, t, N, T_h, T_w, O) into y (N, H, W, O); what reaches beyond it is left out."""
    side, _, images, down, across, filters = tiles.shape
    if y.shape[1:3] == (down * side, across * side):
        y.view(images, down, side, across, side, filters).copy_(tiles.permute(2, 3, 0, 4, 1, 5))
    else:
        whole = tiles.permute(2, 3, 0, 4, 1, 5).reshape(images, down * side, across * side, filters)
        y.copy_(whole[:, : y.shape[1], : y.shape[2]])


def input_at_points(x: Tensor, rows: slice, across: int, padding: Sizes, tile: int) -> Tensor:
    """x (N, C, H, W) -> V (r^2, T, C): V = B^T x B of some rows of tiles."""
    down = rows.stop - rows.start
    part = _region(x, rows.start * tile - padding[0], down * tile + 2, -padding[1], across * tile + 2)
    return _at_points(both_axes(MATRICES[tile].inputs, x), part, tile)  #                     (8)


def output_gradient_at_points(dy: Tensor, rows: slice, across: int, tile: int) -> Tensor:
    """dy (N, O, *P) -> dM (r^2, T, O): dM = A dY A^T of some rows of tiles."""
    down = rows.stop - rows.start
    part = _region(dy, rows.start * tile, down * tile, 0, across * tile)
    return _at_points(both_axes(MATRICES[tile].outputs, dy), part, tile)


def _at_points(matrix: Tensor, part: Tensor, step: int) -> Tensor:
    """matrix (r^2, i^2), part (N, H, W, C) -> (r^2, T, C): of its tiles of i x i, each `step` after the last."""
    side = math.isqrt(matrix.shape[1])
    tiles = part.unfold(1, side, step).unfold(2, side, step).permute(4, 5, 0, 1, 2, 3)  # (i, i, N, T_h, T_w, C)
    count, channels = math.prod(tiles.shape[2:5]), part.shape[3]
    return (matrix @ tiles.reshape(side * side, count * channels)).view(len(matrix), count, channels)


def tile_chunks(x: Tensor, size: Sequence[int], channels: int, tile: int) -> Iterator[tuple[slice, slice, int]]:
    """Slices of the batch and of the rows of tiles, and how many tiles stand in a row."""
    down, across = (-(-length // tile) for length in size)
    if not runs_in_chunks(x):
        yield slice(0, len(x)), slice(0, down), across
        return
    each = channels * (tile + 2) ** 2
    # the transformed weight is read for every chunk: half as many tiles as channels are worth it
    limit = max(TILES, channels // 2 * each)
    for images, rows in chunks_of_output(len(x), (down, across), each, limit):
        yield images, rows, across


def _region(x: Tensor, top: int, height: int, left: int, width: int) -> Tensor:
    """x (N, C, H, W) -> (N, height, width, C), zeros where it reaches beyond x; a view of x if that can be."""
    inside = [
        slice(max(start, 0), min(start + length, size))
        for start, length, size in zip((top, left), (height, width), x.shape[2:], strict=True)
    ]
    part = x[:, :, inside[0], inside[1]].movedim(1, -1)
    if part.shape[1:3] == (height, width) and part.stride(-1) == 1:
        return part
    region = x.new_zeros(len(x), height, width, x.shape[1])
    above, before = inside[0].start - top, inside[1].start - left
    region[:, above : above + part.shape[1], before : before + part.shape[2]] = part
    return region
