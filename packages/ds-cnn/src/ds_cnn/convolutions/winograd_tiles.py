"""Tiles of images, their numbers at Winograd's points, and back. Theory: docs/winograd.md."""

from collections.abc import Iterator, Sequence

import torch
from ds_core import reuse
from torch import Tensor

from ds_cnn.convolutions.chunked import chunks_of_output, runs_in_chunks
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.winograd_transforms import MATRICES, from_points, to_points, write_from_points

# N = batch, C = input channels, O = output channels, P = size of the output, t = outputs of a tile along an axis,
# r = t + 2 = points, T = tiles of the images that are computed at a time, T_h and T_w of one image along its axes.
# Channels are the last axis inside. The points of the width stand before those of the height: it is transformed last.

TILES = 2**18  # numbers of the transformed input at a time, by trial: they and the products stay in the cache
FEWEST = 128  # tiles at a time, so that each transformed weight that is read serves many


def transformed_weight(weight: Tensor, tile: int, turned: bool = False) -> Tensor:
    """weight (O, C, 3, 3) -> U (r^2, O, C): U = G w G^T; of the kernel turned round if `turned`."""
    kernel = kernel_matrix(weight, tile)
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
    kernel = kernel_matrix(dpoints, tile).T  # (9, r^2)
    columns = dpoints.flatten(1)
    if not runs_in_chunks(dpoints):
        return (kernel @ columns).T.reshape(*dpoints.shape[1:], 3, 3)
    dweight = dpoints.new_empty(columns.shape[1], 9)
    for some, out in zip(torch.split(columns, 2**13, 1), torch.split(dweight, 2**13), strict=True):
        out.copy_((kernel @ some).T)
    return dweight.view(*dpoints.shape[1:], 3, 3)


def kernel_matrix(like: Tensor, tile: int) -> Tensor:
    """G and G of both axes in one: (r^2, 9), points of the width first, kernel positions by rows."""
    kernel = torch.tensor(MATRICES[tile].kernel, dtype=like.dtype, device=like.device)
    return (kernel[:, None, None, :] * kernel[None, :, :, None]).flatten(2).flatten(0, 1)


def convolved_tiles(x: Tensor, weights: Tensor, bias: Tensor | None, padding: Sizes, tile: int) -> Tensor:
    """x (N, C, H, W), transformed weights (r^2, C, O) -> y (N, O, *P)."""
    size = output_sizes(x.shape[2:], (3, 3), (1, 1), padding, (1, 1))
    _, channels, filters = weights.shape
    y = reuse(x.new_empty(len(x), *size, filters))
    whole = y
    for images, rows, across in tile_chunks(x, size, max(channels, filters), tile):
        products = torch.bmm(input_at_points(x[images], rows, across, padding, tile), weights)  # M = V U^T   (9)
        if bias is not None:
            products[tile + 3] += bias  # both points are 1 there, whose row of A is 1: b on every output
        exact = rows.stop * tile <= size[0] and across * tile == size[1]
        place = y[images, rows.start * tile : rows.stop * tile] if y is not None else None
        shape = (len(x[images]), rows.stop - rows.start, across, filters)
        part = _outputs(products, shape, tile, place if exact else None)
        if not exact:
            part = part[:, : size[0] - rows.start * tile, : size[1]]
        if place is None:
            whole = part  # the only chunk
        elif not exact:
            place.copy_(part)
    assert whole is not None
    return whole.movedim(-1, 1)


def input_at_points(x: Tensor, rows: slice, across: int, padding: Sizes, tile: int) -> Tensor:
    """x (N, C, H, W) -> V (r^2, T, C): V = B^T x B of some rows of tiles."""
    matrix = MATRICES[tile].inputs
    down = rows.stop - rows.start
    part = _region(x, rows.start * tile - padding[0], down * tile + 2, -padding[1], across * tile + 2)
    by_height = to_points(matrix, _every(part, 1, tile + 2, tile, down))  # (r, N, T_h, W, C)
    by_width = to_points(matrix, _every(by_height, 3, tile + 2, tile, across))  # (r, r, N, T_h, T_w, C)     (8)
    return by_width.view((tile + 2) ** 2, -1, x.shape[1])


def output_gradient_at_points(dy: Tensor, rows: slice, across: int, tile: int) -> Tensor:
    """dy (N, O, *P) -> dM (r^2, T, O): dM = A dY A^T of some rows of tiles."""
    matrix, down = MATRICES[tile].outputs, rows.stop - rows.start
    part = _region(dy, rows.start * tile, down * tile, 0, across * tile)
    by_height = to_points(matrix, _every(part, 1, tile, tile, down))  # (r, N, T_h, W, O)
    by_width = to_points(matrix, _every(by_height, 3, tile, tile, across))  # (r, r, N, T_h, T_w, O)
    return by_width.view((tile + 2) ** 2, -1, dy.shape[1])


def _outputs(products: Tensor, shape: Sizes, tile: int, out: Tensor | None) -> Tensor:
    """products M (r^2, T, O), T in that shape (N, T_h, T_w, O) -> Y (N, T_h t, T_w t, O): Y = A^T M A, in `out`."""
    matrix = MATRICES[tile].outputs
    batch, down, across, filters = shape
    by_width = from_points(matrix, products.view(tile + 2, tile + 2, *shape).unbind(0))  # (t, r, N, T_h, T_w, O)
    if out is None:
        tiles = from_points(matrix, by_width.unbind(1))  # (t, t, N, T_h, T_w, O)                            (10)
        return tiles.permute(2, 3, 0, 4, 1, 5).reshape(batch, down * tile, across * tile, filters)
    places = out.view(batch, down, tile, across, tile, filters).permute(2, 4, 0, 1, 3, 5)
    write_from_points(matrix, by_width.unbind(1), places.unbind(0))
    return out


def tile_chunks(x: Tensor, size: Sequence[int], channels: int, tile: int) -> Iterator[tuple[slice, slice, int]]:
    """Slices of the batch and of the rows of tiles, and how many tiles stand in a row."""
    down, across = (-(-length // tile) for length in size)
    if not runs_in_chunks(x):
        yield slice(0, len(x)), slice(0, down), across
        return
    limit = max(TILES, FEWEST * channels * (tile + 2) ** 2)
    for images, rows in chunks_of_output(len(x), (down, across), channels * (tile + 2) ** 2, limit):
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


def _every(part: Tensor, axis: int, count: int, tile: int, tiles: int) -> list[Tensor]:
    """The first `count` positions of each of the tiles along an axis, one tensor per position."""
    return [part[(slice(None),) * axis + (slice(i, i + (tiles - 1) * tile + 1, tile),)] for i in range(count)]
