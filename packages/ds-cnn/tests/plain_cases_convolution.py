"""Cases for the plain pairs of convolution: name of the fast form -> tuples of arguments."""

from typing import Any

import torch

# x, weight, bias, size of the output, then stride, padding, dilation, groups: one axis; awkward in every way; groups
Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, ...], tuple[Any, ...]]
SHAPES: list[Case] = [
    (torch.randn(2, 3, 5), torch.randn(4, 3, 2), torch.randn(4), (5,), ((1,), (1,), (2,), 1)),
    (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 3, 2), torch.randn(2), (3, 2), ((2, 1), (1, 0), (1, 2), 1)),
    (torch.randn(1, 4, 4, 3), torch.randn(6, 2, 2, 2), torch.randn(6), (3, 2), ((1, 1), (0, 0), (1, 1), 2)),
]


def forward(case: Case) -> tuple[Any, ...]:
    """The arguments of a convolution."""
    x, weight, bias, _, window = case
    return x, weight, bias, *window


def input_gradient(case: Case) -> tuple[Any, ...]:
    """The arguments of its input gradient."""
    x, weight, _, size, window = case
    return torch.randn(len(x), len(weight), *size), weight, tuple(x.shape[2:]), *window


def weight_gradient(case: Case) -> tuple[Any, ...]:
    """The arguments of its weight gradient."""
    x, weight, _, size, window = case
    return torch.randn(len(x), len(weight), *size), x, tuple(weight.shape[2:]), *window


# x, weight, bias, stride, padding, output padding, groups, dilation
TRANSPOSED: list[tuple[Any, ...]] = [
    (torch.randn(2, 2, 3), torch.randn(2, 3, 2), torch.randn(3), (2,), (1,), (1,), 1, (1,)),
    (torch.randn(1, 2, 3, 2), torch.randn(2, 2, 2, 3), None, (1, 2), (1, 0), (1, 0), 2, (2, 1)),
]
# gradients of their outputs
DY = [torch.randn(2, 3, 5), torch.randn(1, 4, 5, 5)]

# by technique: the cases that fit it
TECHNIQUES: dict[str, list[Case]] = {
    "im2col": SHAPES,
    "planes": SHAPES[:2],
    "pointwise": [
        (torch.randn(2, 3, 5, 4), torch.randn(2, 3, 1, 1), torch.randn(2), (3, 4), ((2, 1), (0, 0), (1, 1), 1))
    ],
    "depthwise": [(torch.randn(2, 2, 5), torch.randn(4, 1, 2), torch.randn(4), (3,), ((2,), (1,), (2,), 2))],
    "merged_groups": [
        (torch.randn(2, 4, 5), torch.randn(6, 2, 3), torch.randn(6), (2,), ((2,), (1,), (2,), 2)),
    ],
    "winograd_2x2": [
        (torch.randn(1, 2, 4, 3), torch.randn(2, 2, 3, 3), torch.randn(2), (4, 1), ((1, 1), (1, 0), (1, 1), 1))
    ],
    "winograd_4x4": [
        (torch.randn(1, 2, 6, 3), torch.randn(2, 2, 3, 3), torch.randn(2), (6, 5), ((1, 1), (1, 2), (1, 1), 1))
    ],
}

CASES: dict[str, list[Any]] = {
    "convolution": [forward(case) for case in SHAPES],
    "convolution_input_gradient": [input_gradient(case) for case in SHAPES],
    "convolution_weight_gradient": [weight_gradient(case) for case in SHAPES],
    "convolution_bias_gradient": [(torch.randn(2, 3, 4),), (torch.randn(2, 3, 2, 2),), (torch.randn(0, 3, 2),)],
    "transposed_convolution": TRANSPOSED,
    "transposed_convolution_backward": [
        (dy, x, weight, stride, padding, groups, dilation)
        for dy, (x, weight, _, stride, padding, _, groups, dilation) in zip(DY, TRANSPOSED, strict=True)
    ],
    **{f"{name}_convolution": [forward(case) for case in cases] for name, cases in TECHNIQUES.items()},
    **{f"{name}_input_gradient": [input_gradient(case) for case in cases] for name, cases in TECHNIQUES.items()},
    **{f"{name}_weight_gradient": [weight_gradient(case) for case in cases] for name, cases in TECHNIQUES.items()},
}
