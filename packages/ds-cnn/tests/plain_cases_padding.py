"""Cases for the plain pairs of padding: name of the fast form -> tuples of arguments."""

from typing import Any

import torch

MODES = ("constant", "reflect", "replicate", "circular")
IMAGE = torch.randn(2, 3, 4, 5)
LAST = IMAGE.permute(0, 2, 3, 1)
# both axes, one side only, one axis, cut on one side or on all, nothing, as wide as can be
PADDINGS = [(1, 2, 2, 1), (0, 3, 1, 0), (2, 1), (-1, 2, 0, -2), (-1, -1, -1, -1), (0, 0, 0, 0), (2, 2, 2, 2)]


def padded(image: torch.Tensor, padding: tuple[int, ...]) -> list[int]:
    shape = list(image.shape)
    for axis in range(len(padding) // 2):
        shape[-1 - axis] += padding[2 * axis] + padding[2 * axis + 1]
    return shape


CASES: dict[str, list[Any]] = {
    "pad": [
        (image, padding, mode, 1.5)
        for image in (IMAGE, LAST)
        for padding in PADDINGS
        for mode in MODES
        if not (mode == "reflect" and image is LAST and padding[1] == 3)
    ]
    + [(torch.randn(1, 2, 3, 2), (1, 0, 0, 2, 1, -1), mode) for mode in MODES]
    + [(IMAGE[:0], (1, 1), mode) for mode in MODES],
    "pad_backward": [
        (torch.randn(padded(image, padding)), tuple(image.shape), padding, mode)
        for image in (IMAGE, LAST)
        for padding in PADDINGS
        for mode in MODES
        if not (mode == "reflect" and image is LAST and padding[1] == 3)
    ],
}
