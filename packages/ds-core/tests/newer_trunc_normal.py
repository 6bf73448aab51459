"""PyTorch's trunc_normal_ for every torch: the older ones draw otherwise, by the inverse of the error function."""

import inspect
from typing import Any

import torch
from torch.nn import init


def trunc_normal_twin(tensor: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """The installed torch's, or what torch 2.13 does if that one draws otherwise."""
    if "erfinv" in inspect.getsource(init._no_grad_trunc_normal_):
        return newer_trunc_normal_(tensor, *args, **options)
    return init.trunc_normal_(tensor, *args, **options)


def newer_trunc_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """torch.nn.init.trunc_normal_ of torch 2.13, without its warning."""
    bell = torch.distributions.Normal(mean, std)
    with torch.no_grad():
        if float(bell.cdf(torch.tensor(b)) - bell.cdf(torch.tensor(a))) > 0.3:
            low, high = tensor.new_tensor(a).item(), tensor.new_tensor(b).item()
            result = tensor.normal_(mean, std, generator=generator)
            while bool((outside := (result < low) | (result > high)).any()):
                result = torch.where(outside, torch.empty_like(result).normal_(mean, std, generator=generator), result)
            return tensor.copy_(result)
        log_peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
        pending = torch.ones_like(tensor, dtype=torch.bool)
        while bool(pending.any()):
            drawn = torch.empty_like(tensor).uniform_(a, b, generator=generator)
            tensor.copy_(torch.where(pending, drawn, tensor))
            log_ratio = drawn.sub_(mean).div_(std).pow_(2).mul_(-0.5).sub_(log_peak)
            pending &= torch.empty_like(tensor).uniform_(generator=generator).log_().gt(log_ratio)
        return tensor
