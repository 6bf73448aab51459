"""Cases for the plain pairs of resampling: name of the fast form -> tuples of arguments."""

from typing import Any

import torch
from ds_cnn.resampling.resample import TAPS
from ds_cnn.resampling.sampling_axis import make_axis

# larger and smaller, the same, by a whole factor, from and to one position, and with the corners aligned
AXES = [
    (make_axis(4, 7), make_axis(5, 3)),
    (make_axis(3, 6), make_axis(5, 5)),
    (make_axis(1, 3), make_axis(6, 1)),
    (make_axis(3, 5, align_corners=True), make_axis(4, 5, scale_factor=1.3)),
]
LONG = (make_axis(3, 70), make_axis(80, 2))  # more than one block
ON_AXES = [(make_axis(5, 8),), (make_axis(3, 4), make_axis(3, 2), make_axis(2, 4))]

CASES: dict[str, list[Any]] = {
    "resample": [
        (torch.randn(2, 2, *(axis.size for axis in axes)), axes, kernel)
        for kernel in TAPS
        for axes in (AXES if kernel == "cubic" else AXES[:2])
    ]
    + [(torch.randn(1, 2, 3, 80), LONG, "linear"), (torch.randn(0, 2, 4, 5), AXES[0], "linear")]
    + [(torch.randn(2, 1, *(axis.size for axis in axes)), axes, "linear") for axes in ON_AXES],
    "resample_backward": [
        (torch.randn(2, 2, *(axis.count for axis in axes)), axes, kernel)
        for kernel in TAPS
        for axes in (AXES if kernel == "cubic" else AXES[:2])
    ]
    + [(torch.randn(1, 2, 70, 2), LONG, "linear"), (torch.randn(0, 2, 7, 3), AXES[0], "linear")]
    + [(torch.randn(2, 1, *(axis.count for axis in axes)), axes, "linear") for axes in ON_AXES],
}
