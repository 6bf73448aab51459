"""Learned positions: the token at position t gets the same vector in every text. Theory: docs/learned_positions.md."""

import torch
from ds_core import Module, ShapeError, accumulate, parameter
from torch import Tensor

# B = batch, T = time, E = embed_dim, L = max_length


def add_positions(x: Tensor, weight: Tensor, offset: int = 0) -> Tensor:
    """x (..., T, E), weight (L, E) -> y_te = x_te + W_(offset + t),e  (..., T, E)."""
    return x + weight[offset : offset + x.shape[-2]]


def add_positions_backward(dy: Tensor, weight: Tensor, offset: int = 0) -> Tensor:
    """dy (..., T, E) -> dweight (L, E); dx is dy itself."""
    dweight = torch.zeros_like(weight)
    rows = dweight[offset : offset + dy.shape[-2]]
    rows.copy_(dy.sum(tuple(range(dy.dim() - 2))) if dy.dim() > 2 else dy)  # dW_(offset + t),e = sum_b dy_bte  (1)
    return dweight


class LearnedPositions(Module):
    """y = x + W[offset : offset + T] (Gehring et al., 2017; GPT, BERT and ViT have it).

    Args:
        max_length: L, the longest sequence.
        embed_dim: E.
        generator: where the initial weights are drawn from: normal, standard deviation 0.02, as GPT-2's.

    Raises:
        ShapeError: from `forward`, where x is not (..., T, E) or reaches beyond L.
    """

    backward_reads_parameters = False

    def __init__(
        self,
        max_length: int,
        embed_dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.max_length = max_length
        self.embed_dim = embed_dim
        weight = torch.empty(max_length, embed_dim, device=device, dtype=dtype)
        self.weight = parameter(weight.normal_(0, 0.02, generator=generator))

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., T, E); `offset` is how many tokens came before x (the length of the cache)."""
        if x.dim() < 2 or x.shape[-1] != self.embed_dim:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (..., T, {self.embed_dim})")
        end = offset + x.shape[-2]
        if offset < 0 or end > self.max_length:
            why = "offset is negative" if offset < 0 else "the sequence is longer than the learned positions"
            raise ShapeError(
                f"{self!r}: given positions {offset} to {end}, expected them within 0 to {self.max_length}: {why}"
            )
        self.save(offset)
        return add_positions(x, self.weight, offset)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        (offset,) = self.saved()
        if dy is None:
            return None
        if self.weight.requires_grad:
            accumulate(self.weight, add_positions_backward(dy, self.weight, offset))
        return dy if input_gradient else None

    def extra_repr(self) -> str:
        return f"max_length={self.max_length}, embed_dim={self.embed_dim}"
