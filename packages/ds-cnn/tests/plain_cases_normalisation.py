"""Cases for the plain pairs of normalisation: name of the fast form -> tuples of arguments."""

from typing import Any

import torch

IMAGES, GRADIENT = torch.randn(2, 3, 2, 3), torch.randn(2, 3, 2, 3)
LAST = torch.randn(2, 2, 2, 3).permute(0, 3, 1, 2)  # channels last in memory
SCALE, SHIFT = torch.randn(3), torch.randn(3)
MEAN, RSTD = torch.randn(2, 3), torch.rand(2, 3) + 0.5
NEEDS = [(True, True, True), (True, False, False), (False, True, False), (False, False, True), (False, False, False)]
WINDOWS = [(1, 0.5, 0.75, 1.0), (2, 0.5, 0.75, 1.0), (3, 2.0, 1.5, 0.5), (7, 1.0, -0.5, 2.0)]

CASES: dict[str, list[Any]] = {
    "frozen_batch_norm": [(x, SCALE, SHIFT) for x in (IMAGES, LAST, IMAGES[:0])],
    "frozen_batch_norm_backward": [(dy, SCALE) for dy in (IMAGES, LAST, IMAGES[:0])],
    "instance_norm": [
        (x, *some, 1e-5)
        for x in (IMAGES, LAST, IMAGES[..., 0], IMAGES[:0])
        for some in ((SCALE, SHIFT), (SCALE, None), (None, None))
    ],
    "instance_norm_backward": [
        ((GRADIENT, x, MEAN, RSTD, weight), {"needs": needs})
        for x in (IMAGES, LAST[:, :, :, :1].expand(2, 3, 2, 3))
        for weight in (SCALE, None)
        for needs in NEEDS
    ],
    "local_response_norm": [(x, *w) for x in (IMAGES, LAST, IMAGES[..., 0], IMAGES[:0]) for w in WINDOWS],
    "local_response_norm_backward": [
        (GRADIENT, x, torch.rand(2, 3, 2, 3) + 1, *w[:3]) for x in (IMAGES, GRADIENT) for w in WINDOWS
    ],
}
