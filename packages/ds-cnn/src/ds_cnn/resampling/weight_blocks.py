"""An axis resampled by a few small matrix products. Theory: docs/weight_blocks.md."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ds_cnn.resampling.sampling_axis import Axis, Taps

# S = positions of the input, O = positions of the output, A = all before the axis, Z = all behind it

WHOLE = 64  # an axis no longer than this is one product
BLOCK = 32  # of a longer one, so many positions of its longer side go into each product


class Block(NamedTuple):
    """A part of the weight matrix W (O, S) that holds all that some outputs read."""

    outputs: slice
    inputs: slice
    weights: Tensor  # (outputs, inputs)


def weight_blocks(axis: Axis, taps: Taps, radius: float) -> list[Block]:
    """W of an axis as blocks along its diagonal.

    Args:
        axis: which sizes.
        taps: the weights.
        radius: how far from its source position an output reads at most, in steps, or in positions if s < 1.
    """
    longer = max(axis.size, axis.count)
    length = axis.count if longer <= WHOLE else max(1, BLOCK * axis.count // longer)
    starts = range(0, axis.count, length)
    inputs = [_inputs(axis, first, min(first + length, axis.count) - 1, radius) for first in starts]
    width = axis.size if len(starts) == 1 else max(last - first for first, last in inputs)
    firsts = [min(first, axis.size - width) for first, _ in inputs]
    device = taps.indices.device
    # all blocks in one tensor (B, outputs, inputs): the last one is filled up with the last output, and cut off again
    rows = torch.clamp(torch.arange(len(starts) * length, device=device), max=axis.count - 1)
    positions = torch.tensor(firsts, device=device)[:, None, None, None] + torch.arange(width, device=device)
    is_read = taps.indices[rows].view(len(starts), length, -1, 1) == positions
    weights = (taps.weights[rows].view(len(starts), length, -1, 1) * is_read).sum(2)
    return [
        Block(slice(start, start + length), slice(first, first + width), block[: axis.count - start])
        for start, first, block in zip(starts, firsts, weights.unbind(), strict=True)
    ]


def _inputs(axis: Axis, first: int, last: int, radius: float) -> tuple[int, int]:
    """What the outputs `first` to `last` may read. One more on both sides, because the taps are rounded elsewhere."""
    reach = radius * max(axis.step, 1.0) + 1
    corner = 0.0 if axis.align_corners else 0.5
    start, end = (axis.step * (output + corner) - corner for output in (first, last))
    return max(0, math.floor(start - reach)), min(axis.size, math.ceil(end + reach) + 1)


def multiply(x: Tensor, dim: int, blocks: list[Block]) -> Tensor:
    """x (A, S, Z) -> W x (A, O, Z), where A and Z are the dimensions before and behind `dim`, any number of them."""
    before, behind = x.shape[:dim], x.shape[dim + 1 :]
    planes = x.reshape(math.prod(before), x.shape[dim], math.prod(behind))  # (A, S, Z)
    parts = (_product(b.weights, planes[:, b.inputs], bool(behind)) for b in blocks)
    if len(blocks) == 1:
        return next(parts).view(*before, blocks[0].weights.shape[0], *behind)
    count = blocks[-1].outputs.start + blocks[-1].weights.shape[0]
    y = x.new_empty(planes.shape[0], count, planes.shape[2])
    for block, part in zip(blocks, parts, strict=True):
        y[:, block.outputs] = part
    return y.view(*before, count, *behind)


def multiply_transposed(dy: Tensor, dim: int, blocks: list[Block], size: int) -> Tensor:
    """dy (A, O, Z) -> W^T dy (A, S, Z), S = `size`."""
    before, behind = dy.shape[:dim], dy.shape[dim + 1 :]
    planes = dy.reshape(math.prod(before), dy.shape[dim], math.prod(behind))  # (A, O, Z)
    parts = (_product(b.weights.t(), planes[:, b.outputs], bool(behind)) for b in blocks)
    if len(blocks) == 1:
        dx = next(parts)
    else:
        dx = dy.new_zeros(planes.shape[0], size, planes.shape[2])
        for block, part in zip(blocks, parts, strict=True):
            dx[:, block.inputs].add_(part)  # neighbouring blocks share some positions
    return dx.view(*before, size, *behind)


def _product(weights: Tensor, planes: Tensor, has_columns: bool) -> Tensor:
    """weights (O, S), planes (A, S, Z) -> (A, O, Z), with Z = 1 if nothing lies behind the axis."""
    if has_columns:
        return torch.bmm(weights.expand(planes.shape[0], *weights.shape), planes)
    return torch.mm(planes[:, :, 0], weights.t())[:, :, None]
