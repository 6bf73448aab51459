"""Sinusoidal positions: sines and cosines of many wavelengths, added to the tokens. Theory: docs/sinusoidal.md."""

from functools import partial

import torch
from ds_core import Module, ShapeError
from einops import rearrange
from torch import Tensor

from ds_transformers.positions.tables import Table, check_offset, count_from, position_angles

# T = time, E = embed_dim, P = pairs of a sine and a cosine


def sinusoidal_encoding(
    length: int,
    embed_dim: int,
    offset: int = 0,
    *,
    base: float = 10000.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """What positions offset ... offset + length - 1 are encoded by, (T, E) (Vaswani et al., 2017, section 3.5).

    Computed in float64 and rounded once.

    Args:
        length, embed_dim: T, E; where E is odd, the last sine has no cosine.
        base: wavelengths go from 2 pi to almost 2 pi times this, in positions.
        dtype, device: of the result; torch's defaults if not given.
    """
    encoding = _encode(count_from(offset, length, device), embed_dim, base)
    return encoding.to(torch.get_default_dtype() if dtype is None else dtype)


def _encode(positions: Tensor, embed_dim: int, base: float) -> Tensor:
    angles = position_angles(positions, (embed_dim + 1) // 2, embed_dim, base)  # (T, P)
    # PE_t,2j = sin(t w_j), PE_t,2j+1 = cos(t w_j) with w_j = base^(-2j / E)                                 (1)
    waves = torch.stack([angles.sin(), angles.cos()], -1)
    return rearrange(waves, "t pair wave -> t (pair wave)")[:, :embed_dim]


class SinusoidalPositions(Module):
    """y = x + PE[offset : offset + T], PE of `sinusoidal_encoding` (Vaswani et al., 2017, section 3.5).

    No parameters, no state, and no longest text. The paper multiplies the embeddings by sqrt(E) before and applies
    dropout after; both are left to the model.

    Args:
        embed_dim: E, the width of x and y.
        base: wavelengths go from 2 pi to almost 2 pi times this, in positions.
        max_length: how many positions are computed at once; more are when they are first needed.
        device, dtype: where and as what; another one of x is followed.

    Raises:
        ValueError: `embed_dim` or `base` not positive, `max_length` negative; from `forward`, a negative offset.
        ShapeError: from `forward`, where x is not (..., T, E) or not floating.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        base: float = 10000.0,
        max_length: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if embed_dim <= 0 or base <= 0 or max_length < 0:
            raise ValueError(
                f"SinusoidalPositions: given embed_dim={embed_dim}, base={base}, max_length={max_length}, "
                "expected embed_dim > 0, base > 0, max_length >= 0"
            )
        self.embed_dim = embed_dim
        self.base = base
        self._table = Table(partial(_encode, embed_dim=embed_dim, base=base), max_length, device, dtype)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., T, E) -> y (..., T, E); `offset` is how many tokens came before x (the length of the cache)."""
        if x.dim() < 2 or x.shape[-1] != self.embed_dim or not x.is_floating_point():
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(x.shape)} and {x.dtype}, "
                f"expected (..., T, {self.embed_dim}) of a floating dtype"
            )
        check_offset(self, offset)
        self.save()
        rows = self._table.rows(offset, offset + x.shape[-2], x)  # in float32 if x is in half precision, and so the sum
        return (x + rows).to(x.dtype)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, which is dy itself."""
        self.saved()
        return dy  # dx_te = dy_te                                                                           (2)

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, base={self.base}"
