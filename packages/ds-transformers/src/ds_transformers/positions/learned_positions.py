"""Learned positions: the token at position t gets the same vector in every text. Theory: docs/learned_positions.md."""

import torch
from ds_core import Module, ShapeError, accumulate, parameter
from ds_core.initializers import normal_
from ds_core.layers.embedding import embedding, embedding_backward
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
    """y = x + W[offset : offset + T], or x + W[position_ids] (Gehring et al., 2017; GPT, BERT and ViT have it).

    Args:
        max_length: L, the longest sequence.
        embed_dim: E.
        generator: where the initial weights are drawn from: normal, standard deviation 0.02, as GPT-2's.

    Raises:
        ShapeError: from `forward`, if x is not (..., T, E) or reaches beyond L, or `position_ids` do not fit x.
        IndexError: from `forward` on CPU, if one of `position_ids` is outside 0 ... L - 1.
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
        self.weight = parameter(normal_(weight, std=0.02, generator=generator))

    def forward(self, x: Tensor, offset: int = 0, position_ids: Tensor | None = None) -> Tensor:
        """x (..., T, E) -> y (..., T, E).

        Args:
            offset: how many tokens came before x (the length of the cache).
            position_ids: (..., T) of integers, or broadcast to it, instead of `offset`: where each token stands, if
                padding stands in front, or several texts after one another.
        """
        if x.dim() < 2 or x.shape[-1] != self.embed_dim:
            raise ShapeError(f"{self!r}: given input of shape {tuple(x.shape)}, expected (..., T, {self.embed_dim})")
        if position_ids is not None:
            position_ids = self._fitting(position_ids, x)
            self.save(position_ids)
            return x + embedding(position_ids, self.weight)  # y_bte = x_bte + W_(p_bt),e
        end = offset + x.shape[-2]
        if offset < 0 or end > self.max_length:
            why = "offset is negative" if offset < 0 else "the sequence is longer than the learned positions"
            raise ShapeError(
                f"{self!r}: given positions {offset} to {end}, expected them within 0 to {self.max_length}: {why}"
            )
        self.save(offset)
        return add_positions(x, self.weight, offset)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        (positions,) = self.saved()
        if dy is None:
            return None
        if self.weight.requires_grad:
            if isinstance(positions, Tensor):
                dweight = embedding_backward(dy, positions, self.weight)  # dW_pe = sum_(bt: p_bt = p) dy_bte  (2)
            else:
                dweight = add_positions_backward(dy, self.weight, positions)
            accumulate(self.weight, dweight)
        return dy if input_gradient else None

    def _fitting(self, position_ids: Tensor, x: Tensor) -> Tensor:
        """`position_ids`, one for each token of x."""
        if position_ids.dtype not in (torch.int64, torch.int32):
            raise ShapeError(f"{self!r}: given position_ids of {position_ids.dtype}, expected int64 or int32")
        try:
            expanded = position_ids.expand(x.shape[:-1])
        except RuntimeError as error:
            raise ShapeError(
                f"{self!r}: given position_ids {tuple(position_ids.shape)}, expected {tuple(x.shape[:-1])}"
            ) from error
        # Not on a GPU nor while compiling: a look at them would wait for them, and the lookup itself fails
        if not torch.compiler.is_compiling() and position_ids.device.type == "cpu" and position_ids.numel() > 0:
            low, high = int(position_ids.min()), int(position_ids.max())
            if low < 0 or high >= self.max_length:
                wrong = low if low < 0 else high
                raise IndexError(f"{self!r}: given position_ids with {wrong}, expected 0 ... {self.max_length - 1}")
        return expanded

    def extra_repr(self) -> str:
        return f"max_length={self.max_length}, embed_dim={self.embed_dim}"
