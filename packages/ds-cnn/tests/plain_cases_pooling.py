"""Cases for the plain pairs of pooling: name of the fast form -> tuples of arguments."""

import torch
from ds_cnn import adaptive_max_pool, max_pool

IMAGE, SMALL = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 4, 2)
# windows that overlap, with padding, not square; windows apart, the last of which sticks out
GEOMETRIES = [((3, 2), (2, 3), (1, 0)), ((1, 2), (2, 4), (0, 1))]
DIVISOR = torch.rand(4, 2) + 0.5
# as a forward pass gives them: each lies in its window
PLACES = [max_pool(IMAGE, (4, 2), *geometry, (1, 1))[1] for geometry in GEOMETRIES]
POSITIONS = adaptive_max_pool(IMAGE, (4, 2))[1]
INDICES = torch.randint(0, 35, (2, 3, 4, 2))
# one window, windows side by side, overlapping ones, more windows than positions
SIZES = [(1, 1), (7, 1), (3, 2), (4, 6)]

CASES = {
    "adaptive_avg_pool": [(IMAGE, size) for size in SIZES] + [(IMAGE[:0], (3, 2))],
    "adaptive_avg_pool_backward": [(SMALL, size) for size in [(8, 4), (7, 5), (3, 5)]] + [(SMALL[..., :1, :1], (7, 5))],
    "adaptive_max_pool": [(IMAGE, size) for size in SIZES],
    "adaptive_max_pool_backward": [(SMALL, POSITIONS, (7, 5))],
    "avg_pool": [(IMAGE, DIVISOR, *geometry) for geometry in GEOMETRIES] + [(IMAGE[:0], DIVISOR, *GEOMETRIES[0])],
    "avg_pool_backward": [(SMALL, (7, 5), DIVISOR, *geometry) for geometry in GEOMETRIES],
    "max_pool": [(IMAGE, (4, 2), *geometry, (1, 1)) for geometry in GEOMETRIES]
    + [(IMAGE, (3, 2), *GEOMETRIES[0], (2, 3))],
    "max_pool_backward": [
        (SMALL, places, (7, 5), *geometry, (1, 1)) for places, geometry in zip(PLACES, GEOMETRIES, strict=True)
    ],
    "max_unpool2d": [(SMALL, INDICES, (7, 5))],
    "max_unpool2d_backward": [(IMAGE, INDICES)],
    "window_sums": [(IMAGE, dim, 3, 3, 2, 1) for dim in (-1, -2, -3)] + [(IMAGE, -2, 2, 1, 4, 0)],
    "window_sums_backward": [(SMALL, -2, 7, 3, 2, 1), (SMALL, -1, 5, 2, 3, 0), (SMALL, -1, 5, 1, 2, 0)],
}
