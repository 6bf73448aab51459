"""Which technique computes a convolution: the one place that decides. Theory: docs/techniques.md."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ds_cnn.convolutions.depthwise import depthwise_convolution, depthwise_input_gradient, depthwise_weight_gradient
from ds_cnn.convolutions.geometry import Sizes, output_sizes
from ds_cnn.convolutions.im2col import im2col_convolution, im2col_input_gradient, im2col_weight_gradient
from ds_cnn.convolutions.im2col_planes import planes_convolution, planes_input_gradient, planes_weight_gradient
from ds_cnn.convolutions.merged_groups import (
    merged_groups,
    merged_groups_convolution,
    merged_groups_input_gradient,
    merged_groups_weight_gradient,
)
from ds_cnn.convolutions.pointwise import pointwise_convolution, pointwise_input_gradient, pointwise_weight_gradient
from ds_cnn.convolutions.winograd import (
    winograd_2x2_convolution,
    winograd_2x2_input_gradient,
    winograd_2x2_weight_gradient,
    winograd_4x4_convolution,
    winograd_4x4_input_gradient,
    winograd_4x4_weight_gradient,
)


class Technique(NamedTuple):
    """One way to compute a convolution and its two gradients; arguments as in plain_convolution.py."""

    forward: Callable[..., Tensor]
    input_gradient: Callable[..., Tensor]
    weight_gradient: Callable[..., Tensor]


TECHNIQUES = {
    "im2col": Technique(im2col_convolution, im2col_input_gradient, im2col_weight_gradient),
    "im2col_planes": Technique(planes_convolution, planes_input_gradient, planes_weight_gradient),
    "pointwise": Technique(pointwise_convolution, pointwise_input_gradient, pointwise_weight_gradient),
    "depthwise": Technique(depthwise_convolution, depthwise_input_gradient, depthwise_weight_gradient),
    "merged_groups": Technique(merged_groups_convolution, merged_groups_input_gradient, merged_groups_weight_gradient),
    "winograd_2x2": Technique(winograd_2x2_convolution, winograd_2x2_input_gradient, winograd_2x2_weight_gradient),
    "winograd_4x4": Technique(winograd_4x4_convolution, winograd_4x4_input_gradient, winograd_4x4_weight_gradient),
}


Pass = Literal["forward", "input_gradient", "weight_gradient"]

# A machine in numbers, for the choice between products: nanoseconds on one core, measured. They decide by their
# proportions, which differ little between processors.
MULTIPLICATION = 0.033  # of a large product
TILE_MULTIPLICATION = 0.036  # of one of Winograd's many smaller products
COPY = 0.15  # of a number
COLUMN = 0.6  # reading a number of a matrix by columns
RUN = 10.0  # starting to copy a run of neighbours
STEP = 1.5  # of a number beside a gap, as a stride leaves them
ADD = 0.4  # of a number
TILE_COPY = 0.5  # of a number into a tile, or out of it
WEIGHT = 4.0  # turning a number of the weight for im2col
WEIGHT_POINT = 3.0  # a number of the transformed weight, if all of it stays in the cache
LARGE_WEIGHT_POINT = 6.0  # if not
CACHE = 2**22  # numbers


def choose_technique(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
    dtype: torch.dtype,
    device: torch.device,
    of: Pass,
) -> str:
    """The name in `TECHNIQUES` of the technique for one pass, for an input (N, C, *S) and a weight (O, C/g, *K).

    It looks at shapes, dtype and device alone, so that a compiled step chooses once.
    """
    channels, kernel_size = weight_shape[1], tuple(weight_shape[2:])
    if set(kernel_size) == {1} and not any(padding) and groups == 1:
        return "pointwise"
    if groups > 1:
        merging = device.type == "cpu" and merged_groups(channels * groups, groups) < groups
        return "depthwise" if channels == 1 else "merged_groups" if merging else "im2col"
    size = output_sizes(input_shape[2:], kernel_size, stride, padding, dilation)
    costs = product_costs(input_shape[0], size, weight_shape, stride, of)
    may_round = dtype == torch.float32 and device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if may_round and winograd_fits(weight_shape, stride, padding, dilation):
        costs |= {f"winograd_{tile}x{tile}": winograd_cost(input_shape[0], size, weight_shape, tile) for tile in (2, 4)}
    best = "im2col"
    for name, cost in costs.items():  # not min(), whose key the compiler cannot take sizes through
        if cost < costs[best]:
            best = name
    return best


def winograd_fits(weight_shape: Sequence[int], stride: Sizes, padding: Sizes, dilation: Sizes) -> bool:
    """Whether a convolution of one group is 3 x 3, with a stride and dilation of 1 and a padding up to 2."""
    return tuple(weight_shape[2:]) == (3, 3) and {*stride, *dilation} == {1} and max(padding) <= 2


def product_costs(batch: int, size: Sizes, weight_shape: Sequence[int], stride: Sizes, of: Pass) -> dict[str, float]:
    """Nanoseconds for each number of the weight, by im2col and by planes, for an output of that size."""
    filters, channels = weight_shape[:2]
    rows = batch * math.prod(size)
    # to fetch one number of a row, by planes and by windows
    step = STEP if stride[-1] > 1 else 0
    plane = COPY + COLUMN + RUN / size[-1] + step
    window = COPY + RUN / (channels * weight_shape[-1])
    if of == "input_gradient":
        plane = ADD + RUN / size[-1] + step
        window = ADD + RUN / channels
        if set(stride) == {1}:  # a convolution of dy
            window = (COPY + RUN / (filters * weight_shape[-1])) * filters / channels
    return {
        "im2col": WEIGHT + rows * (MULTIPLICATION + window / filters),
        "im2col_planes": rows * (MULTIPLICATION + plane / filters),
    }


def winograd_cost(batch: int, size: Sizes, weight_shape: Sequence[int], tile: int) -> float:
    """The same for Winograd, in tiles of `tile` x `tile` outputs."""
    filters, channels, *kernel_size = weight_shape
    points = (tile + 2) ** 2
    tiles = batch * math.prod([-(-length // tile) for length in size])
    weight = WEIGHT_POINT if points * filters * channels <= CACHE else LARGE_WEIGHT_POINT
    # a number of a tile is copied, and to the points or back it is a row of a product
    transform = TILE_COPY + MULTIPLICATION * (points + tile**2) / 2
    each = TILE_MULTIPLICATION + sum((transform + RUN / (2 * number)) / number for number in (channels, filters))
    return points * (weight + tiles * each) / math.prod(kernel_size)
