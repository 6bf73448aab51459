"""Numbers that depend on the position alone: computed once, kept, and made again where they do not reach."""

from collections.abc import Callable

import torch
from ds_core.speed.precision import wide_dtype
from torch import Tensor

# T = positions, P = pairs of components, W = numbers of a position


def position_angles(positions: Tensor, pairs: int, width: int, base: float) -> Tensor:
    """positions (...) -> positions times base^(-2j / width) for j = 0 ... P - 1, in radians (..., P)."""
    exponents = torch.arange(pairs, dtype=positions.dtype, device=positions.device).mul_(-2 / width)
    return positions.unsqueeze(-1) * torch.pow(base, exponents)


def count_from(offset: int, length: int, device: torch.device | str | None = None) -> Tensor:
    """offset ... offset + length - 1, (T,), in float64, where an angle of any length in use keeps its fraction."""
    return torch.arange(offset, offset + length, dtype=torch.float64, device=device)


def check_offset(layer: object, offset: int) -> None:
    """Raise ValueError, naming `layer`, where positions would begin before 0."""
    if offset < 0:
        raise ValueError(f"{layer!r}: given offset={offset}, expected how many tokens came before: 0 or more")


class Table:
    """The rows of `function` for the positions from 0 on: in float64 first, and rounded once.

    Not a buffer of its layer: it is no state, and `to(float64)` could not bring back the digits of a float32 table.
    So `rows` looks at what it is for and makes the table anew where its dtype or device is another. A compiled
    graph may not put a tensor in its place: there, what the table lacks is computed without being kept.

    Args:
        function: from positions (T,) in float64 to rows (T, W).
        length, device, dtype: what is computed at once.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        length: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._function = function
        like = torch.empty((), dtype=dtype, device=device)
        self._rows = function(count_from(0, length, like.device)).to(wide_dtype(like))

    def rows(self, start: int, end: int, like: Tensor) -> Tensor:
        """Rows `start` to `end`, the last one left out, (T, W), on the device and in the dtype of `like`.

        In float32 where `like` is in half precision: the sum or the product with it is rounded, not each part.
        """
        kept, dtype = self._rows, wide_dtype(like)
        if kept.dtype == dtype and kept.device == like.device and kept.shape[0] >= end:
            return kept[start:end]
        if torch.compiler.is_compiling():
            return self._function(count_from(start, end - start, like.device)).to(dtype)
        # a power of two, so that a text that grows token by token does not make each row many times
        length = 1 << max(end - 1, 0).bit_length()
        with torch.inference_mode(False), torch.no_grad():  # autograd could not use an inference tensor later
            self._rows = self._function(count_from(0, length, like.device)).to(dtype)
        return self._rows[start:end]
