"""Arguments for the plain pairs of activations: name of the fast function -> a list of argument tuples."""

from typing import Any

import torch
from activation_checks import TABLE
from ds_core.activations.smooth import SmoothActivation
from ds_core.speed.elementwise import CHUNK

_generator = torch.Generator().manual_seed(0)


def _random(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=_generator, dtype=torch.float64)


# Ties, kinks, and numbers whose exponential over- or underflows.
EXTREMES = torch.tensor([0.0, -0.0, 1e4, -1e4, 30, -30, 800, -800, 1e-10, -1e-10, 1, -1, 3, -3, 6, 20, 22, 0.5])
# Ordinary numbers, extremes, more than a chunk, one number, none.
INPUTS = [_random(4, 6), EXTREMES, _random(CHUNK + 7), _random(), _random(0, 3)]
GRADIENTS = [torch.randn(x.shape, generator=_generator) for x in INPUTS]

CASES: dict[str, list[Any]] = {}
for _case in TABLE:
    if issubclass(_case.layer, SmoothActivation):
        for _name in (_case.name, f"{_case.name}_with_slope"):
            CASES[_name] = [((x,), arguments) for x in INPUTS for arguments in _case.combinations()]

_ALL_OF_ELU = [((x,), {"alpha": 0.7, "scale": 1.3, "input_scale": 0.5}) for x in INPUTS]
CASES["elu"] += _ALL_OF_ELU
CASES["elu_with_slope"] += _ALL_OF_ELU
CASES["celu"].append(((INPUTS[0],), {"alpha": -1.5}))
CASES["celu_with_slope"].append(((INPUTS[0],), {"alpha": -1.5}))

# From here on, what keeps its output or its input instead.
_INPUTS = [(x,) for x in INPUTS]
_PAIRS = list(zip(GRADIENTS, INPUTS, strict=True))
_OUTPUTS = [(dy, torch.sigmoid(x)) for dy, x in _PAIRS]
CASES["sigmoid"] = _INPUTS
CASES["sigmoid_backward"] = _OUTPUTS
CASES["tanh"] = _INPUTS
CASES["tanh_backward"] = _OUTPUTS
CASES["hardsigmoid"] = _INPUTS
CASES["hardsigmoid_backward"] = _PAIRS
_LIMITS = [{}, {"min_val": -3.0, "max_val": 0.1}]  # of which 0.1 is rounded in every dtype
CASES["hardtanh"] = [((x,), limits) for x in INPUTS for limits in _LIMITS]
CASES["hardtanh_backward"] = [
    ((dy, torch.clamp(x, limits.get("min_val", -1.0), limits.get("max_val", 1.0))), limits)
    for dy, x in _PAIRS
    for limits in _LIMITS
]
_SLOPES = [{"negative_slope": slope} for slope in (0.01, 0.0, 1.0, 2.0, -0.5)]  # backward has a case for 0 to 1
CASES["leaky_relu"] = [((x,), slope) for x in INPUTS for slope in _SLOPES]
CASES["leaky_relu_backward"] = [(pair, slope) for pair in _PAIRS for slope in _SLOPES]
CASES["glu"] = [(x, x.flip(0) if x.dim() > 0 else -x) for x in INPUTS]
CASES["glu_with_slopes"] = CASES["glu"]

_WEIGHTS = [(x, torch.tensor([0.25])) for x in INPUTS]
_WEIGHTS += [(x, torch.tensor([0.25, -2.0, 0.0])) for x in (_random(4, 3, 2), EXTREMES.view(6, 3))]
CASES["prelu"] = _WEIGHTS
CASES["prelu_backward"] = [
    ((torch.randn(x.shape, generator=_generator), x, weight), {"needs": needs})
    for x, weight in _WEIGHTS
    for needs in [(True, True), (False, True), (True, False)]
]

_SLICES = [(x, dim) for x in (_random(4, 6), EXTREMES.view(6, 3)) for dim in (0, -1)]
_SLICES += [(torch.zeros(3, 4), 1), (torch.full((2, 2), -torch.inf), 1)]
_SLICES += [(_random(), 0), (_random(0, 3), 0), (_random(0, 3), 1)]
for _name in ("softmax", "log_softmax", "softmin"):
    CASES[_name] = _SLICES
    CASES[f"{_name}_backward"] = [
        (torch.randn(x.shape, generator=_generator), getattr(torch, _name.replace("min", "max"))(x.double(), dim), dim)
        for x, dim in _SLICES
    ]
