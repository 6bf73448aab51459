"""Clipping gradients: all together by their norm, or number by number. Theory: docs/clipping.md."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype, widened


def plain_total_norm(gradients: Sequence[Tensor], p: float) -> Tensor:
    """||g||_p of all gradients as one long vector g."""
    parts = [gradient.to(gradients[0].device, wide_dtype(gradient)).reshape(-1) for gradient in gradients]
    g = torch.cat(parts) if parts else torch.tensor([0.0])
    if g.numel() == 0:
        return torch.sum(g)
    m = torch.amax(torch.abs(g))
    if math.isinf(p):
        return m  # (1)
    s = torch.where((m > 0) & torch.isfinite(m), m, 1)
    return s * torch.sum(torch.abs(g / s) ** p) ** (1 / p)  # (2)


def plain_scale_(gradients: Sequence[Tensor], max_norm: float, norm: Tensor) -> Sequence[Tensor]:
    """Multiply all gradients, whose norm is `norm`, by one factor, in place, so that it is at most `max_norm`."""
    c = torch.clamp_max(max_norm / (norm + 1e-6), 1.0)  # (3)
    for gradient in gradients:
        gradient *= c.to(gradient.device)
    return gradients


# The fast forms join small gradients before they sum, read memory once if p = 2 and the sum is in range, multiply all
# gradients by one call, and leave them alone if the factor is 1.
@fast_form(plain_total_norm)
def total_norm(gradients: Sequence[Tensor], p: float) -> Tensor:
    """The p-norm of all numbers of all gradients together, a tensor of no dimensions on the first one's device."""
    vectors = [widened(vector) for vector in _vectors(gradients)]
    if not vectors:
        return torch.tensor(0.0)
    if math.isinf(p):
        return _together([_largest(vector) for vector in vectors]).amax()
    if all(vector.device.type == "cpu" for vector in vectors) and not torch.compiler.is_compiling():
        total = _together([_sum_of_powers(vector, p) for vector in vectors]).sum()
        if _is_exact(total):
            return total ** (1 / p)  # ||g||_p = (sum_i |g_i|^p)^(1/p)                                      (1)
    # On a GPU the program would have to wait to know whether that is needed, and a graph has no such choice. The norm
    # of the norms of the vectors is the norm of them all.
    return _scaled_norm(_together([_scaled_norm(vector, p) for vector in vectors]), p)


def _scaled_norm(vector: Tensor, p: float) -> Tensor:
    m = _largest(vector)
    s = torch.where((m > 0) & torch.isfinite(m), m, 1)
    return s * _sum_of_powers(vector / s, p) ** (1 / p)  # ||g||_p = s (sum_i |g_i / s|^p)^(1/p)            (2)


def _sum_of_powers(vector: Tensor, p: float) -> Tensor:
    if p != 2:
        return vector.abs().pow_(p).sum()
    # a product of the vector with itself reads memory once; squares would be written and read again, except by a
    # compiler, which sums what it has just divided and squared
    return (vector * vector).sum() if torch.compiler.is_compiling() else torch.dot(vector, vector)


def _largest(vector: Tensor) -> Tensor:
    return vector.abs().amax() if vector.numel() > 0 else vector.sum()


def _together(terms: Sequence[Tensor]) -> Tensor:
    """One vector on the first one's device."""
    return torch.stack([term.to(terms[0].device) for term in terms])


def _is_exact(total: Tensor) -> bool:
    """Whether neither overflow nor underflow of single terms can be seen in a sum of powers; 2^60 terms are many."""
    return math.isfinite(total) and float(total) > torch.finfo(total.dtype).tiny * 2.0**60


@fast_form(plain_scale_)
def scale_(gradients: Sequence[Tensor], max_norm: float, norm: Tensor) -> Sequence[Tensor]:
    """Multiply all gradients, whose norm is `norm`, by min(1, max_norm / norm), in place."""
    # a tensor, so that a GPU's norm is not waited for and a compiled step is not compiled twice
    factor = torch.clamp_max(max_norm / (norm + 1e-6), 1.0)  # c = min(1, max_norm / (norm + 1e-6))          (3)
    if factor.device.type == "cpu" and not torch.compiler.is_compiling() and factor == 1:
        return gradients  # to ask costs nothing here, and spares a pass over all gradients
    by_device: dict[torch.device, list[Tensor]] = {}
    for gradient in gradients:
        by_device.setdefault(gradient.device, []).append(gradient)
    for device, together in by_device.items():
        torch._foreach_mul_(together, factor.to(device))
    return gradients


@torch.no_grad()
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
        ValueError: `norm_type` is not positive.
        RuntimeError: with `error_if_nonfinite`, if the norm is infinite or NaN; nothing has been scaled.
    """
    gradients = _gradients(parameters)
    norm = get_total_norm(gradients, norm_type, error_if_nonfinite)
    scale_(gradients, max_norm, norm)
    return norm


@torch.no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring every number of every gradient into -clip_value ... clip_value, in place.

    Twin of torch.nn.utils.clip_grad_value_, `foreach` left out.
    """
    for gradient in _gradients(parameters):
        gradient.clamp_(-clip_value, clip_value)


@torch.no_grad()
def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The p-norm of all numbers of all tensors together, a tensor of no dimensions on the first one's device.

    Twin of torch.nn.utils.get_total_norm, `foreach` left out. Half-precision numbers are summed in float32. Of no
    tensors it is 0, on the CPU.

    Raises:
        ValueError: `norm_type` is not positive.
        RuntimeError: with `error_if_nonfinite`, if the norm is infinite or NaN.
    """
    p = float(norm_type)
    if not p > 0:
        raise ValueError(f"norm_type {norm_type}: expected a positive number, or inf")
    norm = total_norm(list(tensors), p)
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"the total norm of order {norm_type} is {float(norm)}, so gradients cannot be clipped to one; "
            "pass error_if_nonfinite=False to scale them by it all the same"
        )
    return norm


def _vectors(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The numbers of all tensors, the first one's first; small tensors of a dtype and device come as one vector."""
    together: dict[Any, list[Tensor]] = {}
    for index, tensor in enumerate(tensors):
        # a compiler joins the calls itself, and would have to copy
        alone = tensor.numel() > 2**12 or torch.compiler.is_compiling()
        key = index if alone else (tensor.dtype, tensor.device)
        together.setdefault(key, []).append(tensor.reshape(tensor.numel()))
    return [torch.cat(some) if len(some) > 1 else some[0] for some in together.values()]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else parameters
    return [tensor.grad for tensor in tensors if tensor.grad is not None]
