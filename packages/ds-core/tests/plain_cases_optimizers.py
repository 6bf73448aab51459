"""Arguments for the plain pairs of optimizers: name of the fast function -> a list of argument tuples.

The optimizers themselves are held together by tests/test_plain_optimizers.py.
"""

import math
from typing import Any

import torch
from torch import Tensor


def _random(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


MANY = [_random(3, 4), _random(5, seed=1), _random(0), _random(seed=2), _random(70, 70, seed=3), _random(5000, seed=4)]
COUPLED = {"lr": 0.1, "weight_decay": 0.5}
NORMS = [0.5, 1.0, 2.0, 3.0, math.inf]
RATE = torch.tensor(0.3, dtype=torch.float64)

CASES: dict[str, list[Any]] = {
    "effective_gradient": [
        (_random(3, 4), _random(3, 4, seed=1), group)
        for group in (
            {},
            {"maximize": True},
            COUPLED,
            {**COUPLED, "maximize": True},
            {**COUPLED, "maximize": True, "decoupled_weight_decay": True},
        )
    ],
    "move_": [
        (_random(3, 4), (_random(3, 4, seed=1), denominator), step_size)
        for denominator in (None, _random(3, 4, seed=2).abs() + 0.1)
        for step_size in (0.3, RATE)
    ],
    "total_norm": [(gradients, p) for p in NORMS for gradients in (MANY, MANY[:1], MANY[2:3], [])]
    + [([torch.tensor([1.0, bad]), torch.ones(3)], p) for p in NORMS for bad in (math.inf, math.nan)],
    "scale_": [
        (MANY, max_norm, norm)
        for max_norm in (0.0, 0.7, 1.0, math.inf)
        for norm in (torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1.0 - 1e-6), torch.tensor(25.0))
    ]
    + [(MANY, 1.0, torch.tensor(bad)) for bad in (math.inf, math.nan)],
}
