"""Sinusoidal positions of pictures, half for the row and half for the column. Theory: docs/sinusoidal_2d.md."""

import math

import torch
from ds_core import Module, ShapeError
from ds_core.speed.precision import wide_dtype
from einops import rearrange
from torch import Tensor

from ds_transformers.positions.tables import position_angles

# B = batch, Y = rows, X = columns of a picture (or of its feature map), E = embed_dim


def sinusoidal_2d_encoding(
    mask: Tensor,
    embed_dim: int,
    *,
    temperature: float = 10000.0,
    normalize: bool = True,
    scale: float = 2 * math.pi,
    eps: float = 1e-6,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """mask (B, Y, X) -> (B, Y, X, E); the arguments of `SinusoidalPositions2d`, and the dtype of the result."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    seen = mask.logical_not()
    wide = wide_dtype(torch.empty((), dtype=dtype))
    rows, columns = (seen.cumsum(axis, dtype=wide) for axis in (1, 2))  # r_byx, c_byx                       (1)
    if normalize:
        rows = rows / (rows[:, -1:] + eps) * scale  # r scale / (r_last + eps)                               (2)
        columns = columns / (columns[:, :, -1:] + eps) * scale
    halves = [_waves(counts, embed_dim // 2, temperature) for counts in (rows, columns)]
    return torch.cat(halves, -1).to(dtype)


def _waves(counts: Tensor, width: int, temperature: float) -> Tensor:
    """counts (B, Y, X) -> sin(r w_j) and cos(r w_j) in turn, w_j = temperature^(-2j / width), (B, Y, X, width)."""
    angles = position_angles(counts, width // 2, width, temperature)
    waves = torch.stack([angles.sin(), angles.cos()], -1)  # components 2j and 2j + 1 of a half              (3)
    return rearrange(waves, "b y x pair wave -> b y x (pair wave)")


class SinusoidalPositions2d(Module):
    """The encoding of every pixel of a batch of pictures that may be padded to a common size.

    Carion et al., "End-to-End Object Detection with Transformers" (DETR), 2020, appendix,
    "Spatial positional encoding", and the authors' code.
    The first E / 2 channels tell the row, the others the column. Depends on the padding alone, so there is no gradient.

    Args:
        embed_dim: E, a multiple of 4.
        temperature: the base of the wavelengths.
        normalize: rows and columns are divided by the last one that is no padding, and multiplied by `scale`.
        scale: what the last row and column become; used with `normalize` only.
        eps: added to what is divided by, which is 0 where all is padding.
        dtype: of the result; torch's default if not given.

    Raises:
        ValueError: E not a positive multiple of 4, or `temperature` not positive.
        ShapeError: from `forward`, where the mask is not (B, Y, X) of torch.bool.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        temperature: float = 10000.0,
        normalize: bool = True,
        scale: float = 2 * math.pi,
        eps: float = 1e-6,
        dtype: torch.dtype | None = None,
    ) -> None:
        if embed_dim <= 0 or embed_dim % 4 != 0 or temperature <= 0:
            raise ValueError(
                f"SinusoidalPositions2d: given embed_dim={embed_dim}, temperature={temperature}, expected embed_dim "
                "to be a positive multiple of 4, for a sine and a cosine of row and column, and temperature > 0"
            )
        self.embed_dim = embed_dim
        self.temperature = temperature
        self.normalize = normalize
        self.scale = scale
        self.eps = eps
        self.dtype = dtype

    def forward(self, mask: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """mask (B, Y, X), True where a pixel is padding -> (B, Y, X, E), on the mask's device.

        Args:
            dtype: of the result; that of the constructor if not given.
        """
        if mask.dim() != 3 or mask.dtype != torch.bool:
            raise ShapeError(
                f"{self!r}: given a mask of shape {tuple(mask.shape)} and {mask.dtype}, expected (B, Y, X) of "
                "torch.bool, True where a pixel is padding"
            )
        return sinusoidal_2d_encoding(
            mask,
            self.embed_dim,
            temperature=self.temperature,
            normalize=self.normalize,
            scale=self.scale,
            eps=self.eps,
            dtype=self.dtype if dtype is None else dtype,
        )

    def of_size(
        self, height: int, width: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The encoding of a picture without padding, (1, Y, X, E): the same for every picture of that size."""
        return self.forward(torch.zeros(1, height, width, dtype=torch.bool, device=device), dtype)

    def backward(self, dy: Tensor | None) -> None:
        """There is nothing to go back to: the encoding depends on the mask alone."""

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, temperature={self.temperature}, normalize={self.normalize}"
