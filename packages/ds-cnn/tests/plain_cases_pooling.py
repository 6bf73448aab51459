"""Cases for the plain pairs of pooling: name of the fast form -> tuples of arguments."""

import torch

IMAGE, SMALL = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 4, 2)
# windows that overlap, with padding, not square; windows apart, the last of which sticks out
GEOMETRIES = [((3, 2), (2, 3), (1, 0)), ((1, 2), (2, 4), (0, 1))]
DIVISOR = torch.rand(4, 2) + 0.5

CASES = {
    "avg_pool2d": [(IMAGE, DIVISOR, *geometry) for geometry in GEOMETRIES] + [(IMAGE[:0], DIVISOR, *GEOMETRIES[0])],
    "avg_pool2d_backward": [(SMALL, (7, 5), DIVISOR, *geometry) for geometry in GEOMETRIES],
    "window_sums": [(IMAGE, dim, 3, 3, 2, 1) for dim in (-1, -2)] + [(IMAGE, -2, 2, 1, 4, 0)],
    "window_sums_backward": [(SMALL, -2, 7, 3, 2, 1), (SMALL, -1, 5, 2, 3, 0), (SMALL, -1, 5, 1, 2, 0)],
}
