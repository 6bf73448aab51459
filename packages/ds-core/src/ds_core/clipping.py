"""Clipping gradients: all together by their norm, or number by number. Theory: docs/clipping.md."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor, in place, so that the norm of all of them together is at most `max_norm`.

    Pascanu et al., "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
    Twin of torch.nn.utils.clip_grad_norm_, `foreach` left out. Parameters without a gradient are passed over.

    Args:
        norm_type: p of the p-norm; `inf` for the largest absolute value.

    Returns:
        The norm before clipping, a tensor of no dimensions.

    Raises:
        RuntimeError: with `error_if_nonfinite`, where the norm is infinite or NaN; nothing has been scaled.
    """
    gradients = _gradients(parameters)
    norm = total_norm(gradients, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the total norm of order {norm_type} of {len(gradients)} gradients is {float(norm)}, so they cannot be "
            "clipped; pass error_if_nonfinite=False to scale them by it all the same"
        )
    # a tensor, not a Python branch, so that a compiled step neither waits for the norm nor is compiled twice
    factor = torch.clamp_max(max_norm / (norm + 1e-6), 1.0)  # c = min(1, max_norm / (norm + 1e-6))          (2)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clamp every number of every gradient to -clip_value ... clip_value, in place. Twin of torch.nn.utils.clip_grad_value_."""
    for gradient in _gradients(parameters):
        gradient.clamp_(-clip_value, clip_value)


def total_norm(tensors: list[Tensor], norm_type: float = 2.0) -> Tensor:
    """The p-norm of all numbers of all tensors together, a tensor of no dimensions."""
    p = float(norm_type)
    if not tensors:
        return torch.tensor(0.0)
    first = tensors[0].device
    if math.isinf(p):
        largest = [tensor.detach().abs().amax() for tensor in tensors if tensor.numel() > 0]
        return torch.stack([value.to(first) for value in largest]).amax() if largest else torch.tensor(0.0)
    if p == 2:
        # a product of the vector with itself reads memory once, where squares would be written and read again
        powers = [torch.dot(flat, flat) for flat in (tensor.detach().reshape(tensor.numel()) for tensor in tensors)]
    else:
        powers = [tensor.detach().abs().pow_(p).sum() for tensor in tensors]
    total = torch.stack([power.to(first) for power in powers]).sum()
    return total.sqrt() if p == 2 else total.pow(1 / p)  # ||g||_p = (sum_i |g_i|^p)^(1/p)                     (1)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else parameters
    return [tensor.grad for tensor in tensors if tensor.grad is not None]
