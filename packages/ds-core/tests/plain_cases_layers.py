"""Arguments for the plain pairs of layers: name of the fast function -> a list of argument tuples."""

from typing import Any

import torch
from torch import Tensor


def draws(*shape: int) -> Tensor:
    """Normal numbers, the same ones each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def rstd(square: Tensor, eps: float) -> Tensor:
    return 1 / (square + eps).sqrt()


def all_needs(count: int) -> list[tuple[bool, ...]]:
    """All gradients, each one alone, and none."""
    return [(True,) * count, *(tuple(i == j for j in range(count)) for i in range(count)), (False,) * count]


# Rows: ordinary, of large mean, all numbers equal, tiny, large; then one row, one number, none, rows of none.
EQUAL = torch.full((1, 5), 3.0, dtype=torch.float64)
MIXED = torch.cat([draws(2, 5), draws(1, 5) + 1e4, EQUAL, 1e-9 * draws(1, 5), 1e9 * draws(1, 5)])
ROWS = [MIXED, draws(1, 5), draws(4, 1), draws(0, 5), draws(3, 0)]


def layer_norm_cases() -> tuple[list[Any], list[Any]]:
    forward: list[Any] = []
    backward: list[Any] = []
    for x in ROWS:
        weight, bias, dy = draws(x.shape[1]), draws(x.shape[1]) - 1, draws(*x.shape) + 0.5
        forward += [(x, weight, bias, 1e-5), (x, weight, None, 1e-5), (x, None, bias, 1e-5), (x, None, None, 3.0)]
        mean = x.mean(1, keepdim=True)
        scale = rstd((x - mean).square().mean(1, keepdim=True), 1e-5)
        for needs in all_needs(3):
            backward += [((dy, x, mean, scale, some), {"needs": needs}) for some in (weight, None)]
    return forward, backward


def rms_norm_cases() -> tuple[list[Any], list[Any]]:
    forward: list[Any] = []
    backward: list[Any] = []
    for x in [*ROWS, torch.zeros(2, 5, dtype=torch.float64)]:
        weight, dy = draws(x.shape[1]), draws(*x.shape) + 0.5
        forward += [(x, weight, 1e-5), (x, None, None), (x, weight, None)]
        scale = rstd((x * x).mean(1, keepdim=True), 1e-5)
        for needs in all_needs(2):
            backward += [((dy, x, scale, some), {"needs": needs}) for some in (weight, None)]
    return forward, backward


# (N, C), (N, C, L), images in another order of memory, one example, no example, no channel; the third channel of the
# first is always the same
FLAT = draws(4, 3)
FLAT[:, 2] = 0.5
CHANNELS = [FLAT, draws(3, 2, 3), draws(2, 2, 1, 3).permute(0, 3, 1, 2), draws(1, 3, 2), draws(0, 4), draws(3, 0)]


def batch_norm_cases() -> tuple[list[Any], list[Any]]:
    forward: list[Any] = []
    backward: list[Any] = []
    for x in CHANNELS:
        channels, others = x.shape[1], [0, *range(2, x.dim())]
        weight, bias, dy = draws(channels), draws(channels) - 1, draws(*x.shape) + 0.5
        mean, var = 0.3 * draws(channels), draws(channels).square() + 0.1
        for given in ((), (mean, var)):
            forward += [(x, *some, 1e-5, *given) for some in ((weight, bias), (weight, None), (None, None))]
        forward += [(x, weight, bias, 1e-5, *one) for one in ((mean, None), (None, var))]
        if x.shape[0] > 0:
            mean = x.mean(others)
            var = (x - x.mean(others, keepdim=True)).square().mean(others)
        scale, count = rstd(var, 1e-5), 1 / max(1, x.numel() // max(1, channels))
        for needs in all_needs(3):
            for inverse, totals in ((count, None), (None, None), (count / 2, (bias, weight))):
                options = {"needs": needs, "totals": totals}
                backward += [((dy, x, mean, scale, some, inverse), options) for some in (weight, None)]
    return forward, backward


def group_norm_cases() -> tuple[list[Any], list[Any]]:
    forward: list[Any] = []
    backward: list[Any] = []
    same = draws(2, 6, 3)
    same[0, :3] = 2.0
    for x, groups in [(same, 2), (same, 6), (same, 1), (draws(1, 4, 1), 2), (draws(0, 4, 2), 2)]:
        channels = x.shape[1]
        weight, bias, dy = draws(channels), draws(channels) - 1, draws(*x.shape) + 0.5
        forward += [(x, *some, groups, 1e-5) for some in ((weight, bias), (weight, None), (None, None))]
        rows = x.reshape(x.shape[0], groups, channels // groups * x.shape[2])
        mean = rows.mean(2)
        scale = rstd((rows - rows.mean(2, keepdim=True)).square().mean(2), 1e-5)
        for needs in all_needs(3):
            backward += [((dy, x, mean, scale, some), {"needs": needs}) for some in (weight, None)]
    return forward, backward


# Rows read never, once and three times; one look-up, none; int32.
LOOKED_UP = torch.tensor([[4, 1, 1], [0, 1, 4]])
INDICES = [LOOKED_UP, LOOKED_UP.int(), torch.tensor(2), torch.zeros(0, 3, dtype=torch.int64)]
TABLE = draws(5, 3)


def scale_of(indices: Tensor) -> Tensor:
    return draws(indices.numel(), 1)


def bilinear_cases() -> tuple[list[Any], list[Any]]:
    sizes = [(5, 2, 3, 4), (1, 1, 1, 1), (0, 2, 3, 4), (3, 2, 0, 4), (3, 2, 3, 0)]
    inputs = [(draws(n, i), draws(n, j) - 1, draws(o, i, j)) for n, i, j, o in sizes]
    forward = [(*tensors, bias) for tensors in inputs for bias in (draws(tensors[2].shape[0]), None)]
    backward = [
        ((draws(len(x1), len(weight)) + 0.5, x1, x2, weight), {"needs": needs})
        for x1, x2, weight in inputs
        for needs in all_needs(4)
    ]
    return forward, backward


MASK = (draws(3, 4) > 0).double()
LONG = draws(300, 1000)  # more than one chunk
DROPPED = [
    (x, mask, p)
    for x, mask in [(draws(3, 4), MASK), (1e150 * draws(3, 4), MASK), (draws(0, 4), draws(0, 4)), (LONG, LONG.sign())]
    for p in (0.2, 0.9)
]

BRANCHES = [(draws(*shape), draws(*shape) - 1) for shape in [(3, 4), (2, 3, 4), (2, 0, 4), ()]]

LAYER_NORM, LAYER_NORM_BACKWARD = layer_norm_cases()
RMS_NORM, RMS_NORM_BACKWARD = rms_norm_cases()
BATCH_NORM, BATCH_NORM_BACKWARD = batch_norm_cases()
GROUP_NORM, GROUP_NORM_BACKWARD = group_norm_cases()
BILINEAR, BILINEAR_BACKWARD = bilinear_cases()

CASES: dict[str, list[Any]] = {
    "add_branch": BRANCHES,
    "add_skip": [*BRANCHES, (None, None), (None, draws(3, 4)), (draws(3, 4), None)],
    "alpha_dropout": DROPPED,
    "alpha_dropout_backward": DROPPED,
    "batch_norm": BATCH_NORM,
    "batch_norm_backward": BATCH_NORM_BACKWARD,
    "bilinear": BILINEAR,
    "bilinear_backward": BILINEAR_BACKWARD,
    "embedding": [(indices, TABLE) for indices in INDICES],
    "embedding_backward": [
        (draws(*indices.shape, 3), indices, TABLE, scale) for indices in INDICES for scale in (None, scale_of(indices))
    ],
    "group_norm": GROUP_NORM,
    "group_norm_backward": GROUP_NORM_BACKWARD,
    "layer_norm": LAYER_NORM,
    "layer_norm_backward": LAYER_NORM_BACKWARD,
    "rms_norm": RMS_NORM,
    "rms_norm_backward": RMS_NORM_BACKWARD,
    "row_scale": [
        (indices, TABLE, padding_idx, by_frequency)
        for indices in INDICES
        for padding_idx in (None, 1)
        for by_frequency in (False, True)
    ],
}
