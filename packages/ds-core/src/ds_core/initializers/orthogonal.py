"""Weights that turn vectors and keep their lengths. Theory: docs/initializers.md."""

import math

import torch
from torch import Generator, Tensor

from ds_core.errors import ShapeError
from ds_core.speed.precision import wide_dtype


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A random matrix with orthonormal rows, or columns where those are fewer, times `gain`.

    Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2014.
    Twin of torch.nn.init.orthogonal_. The QR factorisation is torch.linalg's.

    Args:
        tensor: (outputs, inputs, ...); all dimensions but the first are taken together.
        gain: see `calculate_gain`.

    Raises:
        ShapeError: the tensor has fewer than 2 dimensions.
        ValueError: `gain` is not finite.
    """
    if tensor.dim() < 2:
        raise ShapeError(
            f"orthogonal_: given shape {tuple(tensor.shape)}. Only tensors with 2 or more dimensions are supported"
        )
    if not math.isfinite(gain):
        raise ValueError(f"orthogonal_: given gain={gain}, expected a finite number")
    if tensor.numel() == 0 or tensor.is_meta:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    with torch.no_grad():
        matrix = torch.empty((rows, columns), dtype=wide_dtype(tensor), device=tensor.device)
        matrix.normal_(generator=generator)
        q, r = torch.linalg.qr(matrix.t() if rows < columns else matrix)  # A = Q R
        q = q * r.diagonal().sign()  # Q sign(diag R)                                                    (13)
        return tensor.copy_((q.t() if rows < columns else q).reshape(tensor.shape)).mul_(gain)
