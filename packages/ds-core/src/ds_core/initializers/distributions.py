"""Weights drawn from a distribution that the caller names. Theory: docs/initializers.md."""

import math

import torch
from torch import Generator, Tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Numbers equally likely anywhere from `a` to `b`. Twin of torch.nn.init.uniform_.

    Raises:
        ValueError: `b` is below `a`, or one of them is not finite.
    """
    if not -math.inf < a <= b < math.inf:
        raise ValueError(f"uniform_: given a={a} and b={b}, expected finite numbers with a <= b")
    if tensor.is_meta:
        return tensor
    with torch.no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Numbers of a normal distribution. Twin of torch.nn.init.normal_.

    Raises:
        ValueError: `std` is negative, or one of them is not finite.
    """
    if not (math.isfinite(mean) and 0 <= std < math.inf):
        raise ValueError(f"normal_: given mean={mean} and std={std}, expected finite numbers with std >= 0")
    if tensor.is_meta:  # where PyTorch first imports hundreds of modules, which takes seconds
        return tensor
    with torch.no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Numbers of a normal distribution of which only what lies from `a` to `b` is kept.

    Twin of torch.nn.init.trunc_normal_. `a` and `b` are bounds, not numbers of standard deviations.

    Raises:
        ValueError: `std` is not above 0, `b` is not above `a`, or `mean` is not finite.
    """
    if not (math.isfinite(mean) and 0 < std < math.inf):
        raise ValueError(f"trunc_normal_: given mean={mean} and std={std}, expected finite numbers with std > 0")
    if not a < b:
        raise ValueError(f"trunc_normal_: given a={a} and b={b}, expected a < b")
    if tensor.is_meta:
        return tensor
    width = math.sqrt(2) * std
    kept = (math.erf((b - mean) / width) - math.erf((a - mean) / width)) / 2  # P(a <= w <= b)           (11)
    with torch.no_grad():
        if kept > 0.3:
            return _redrawn(tensor, mean, std, a, b, generator)
        return _rejected(tensor, mean, std, a, b, generator)


def _redrawn(tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None) -> Tensor:
    """Draw normal numbers until all lie within the bounds, which are rounded as the tensor's numbers are."""
    low, high = torch.tensor([a, b], dtype=tensor.dtype).tolist()
    tensor.normal_(mean, std, generator=generator)
    while True:
        outside = (tensor < low) | (tensor > high)
        if not outside.any():
            return tensor
        again = torch.empty_like(tensor).normal_(mean, std, generator=generator)
        tensor.copy_(torch.where(outside, again, tensor))


def _rejected(tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None) -> Tensor:
    """Draw uniform numbers w, and keep each with probability phi(w) / phi(c), c where the density is largest.

    Where little of the bell lies within the bounds, redrawing from all of it would take very long.
    """
    peak = max(a, min(mean, b))
    log_peak = -0.5 * ((peak - mean) / std) ** 2
    pending = torch.ones(tensor.shape, dtype=torch.bool, device=tensor.device)
    while True:
        drawn = torch.empty_like(tensor).uniform_(a, b, generator=generator)
        tensor.copy_(torch.where(pending, drawn, tensor))
        # log(phi(w) / phi(c)) = -((w - mu) / sigma)^2 / 2 + ((c - mu) / sigma)^2 / 2                    (12)
        log_ratio = drawn.sub_(mean).div_(std).pow_(2).mul_(-0.5).sub_(log_peak)
        refused = torch.empty_like(tensor).uniform_(generator=generator).log_() > log_ratio
        pending = pending & refused
        if not pending.any():
            return tensor
