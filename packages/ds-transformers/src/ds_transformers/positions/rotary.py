"""Rotary positions: pairs of components turned by an angle that grows with the position. Theory: docs/rotary.md."""

from functools import partial

import torch
from ds_core import Module, ShapeError, fast_form
from ds_core.speed.precision import widened
from torch import Tensor

from ds_transformers.positions.tables import Table, check_offset, count_from, position_angles

# T = time, D = head_dim, R = rotary_dim, the components that are turned: R / 2 pairs


def plain_rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """x (..., T, D), cos and sin (T, R / 2) -> y (..., T, D), whose components from R on are those of x."""
    _check_table(x, cos, sin)
    a, b = _pairs(x, cos, interleaved)  # (..., T, R / 2)
    ya = a * cos - b * sin  # ya_tj = a_tj cos_tj - b_tj sin_tj                                             (1)
    yb = b * cos + a * sin  # yb_tj = b_tj cos_tj + a_tj sin_tj                                             (2)
    return _joined(ya, yb, x, interleaved)


def plain_rotary_backward(dy: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """dy (..., T, D), cos, sin, interleaved of `plain_rotary` -> dx (..., T, D)."""
    _check_table(dy, cos, sin)
    dya, dyb = _pairs(dy, cos, interleaved)
    da = dya * cos + dyb * sin  # da_tj = dya_tj cos_tj + dyb_tj sin_tj                                     (3)
    db = dyb * cos - dya * sin  # db_tj = dyb_tj cos_tj - dya_tj sin_tj                                     (4)
    return _joined(da, db, dy, interleaved)


# The fast pair passes over all of x once, with the cosines, and adds the sines' part to the result in place.


@fast_form(plain_rotary)
def rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """x (..., T, D), cos and sin (T, R / 2) -> y (..., T, D), whose components from R on are those of x.

    Args:
        cos, sin: of `rotary_table`; or with leading dimensions that are broadcast to those of x, if examples begin at
            positions of their own.
        interleaved: pair j is components 2j and 2j + 1, as in the paper, instead of j and j + R / 2.
    """
    _check_table(x, cos, sin)
    wide = widened(x)
    a, b = _pairs(wide, cos, interleaved)  # (..., T, R / 2)
    y = wide * _spread(cos, x.shape[-1], interleaved)
    ya, yb = _pairs(y, cos, interleaved)
    ya.addcmul_(b, sin, value=-1)  # ya_tj = a_tj cos_tj - b_tj sin_tj                                      (1)
    yb.addcmul_(a, sin)  # yb_tj = b_tj cos_tj + a_tj sin_tj                                                (2)
    return y.to(x.dtype)


@fast_form(plain_rotary_backward)
def rotary_backward(dy: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """dy (..., T, D), cos, sin, interleaved of `rotary` -> dx (..., T, D)."""
    _check_table(dy, cos, sin)
    wide = widened(dy)
    dya, dyb = _pairs(wide, cos, interleaved)
    dx = wide * _spread(cos, dy.shape[-1], interleaved)
    da, db = _pairs(dx, cos, interleaved)
    da.addcmul_(dyb, sin)  # da_tj = dya_tj cos_tj + dyb_tj sin_tj                                          (3)
    db.addcmul_(dya, sin, value=-1)  # db_tj = dyb_tj cos_tj - dya_tj sin_tj                                (4)
    return dx.to(dy.dtype)


def rotary_table(
    length: int,
    rotary_dim: int,
    offset: int = 0,
    *,
    base: float = 10000.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles t base^(-2j / R) for t = offset ... offset + length - 1, (T, R / 2) each.

    Computed in float64 and rounded once.
    """
    rows = _cos_and_sin(count_from(offset, length, device), rotary_dim, base)
    cos, sin = rows.to(torch.get_default_dtype() if dtype is None else dtype).chunk(2, -1)
    return cos, sin


def _cos_and_sin(positions: Tensor, rotary_dim: int, base: float) -> Tensor:
    angles = position_angles(positions, rotary_dim // 2, rotary_dim, base)
    return torch.cat([angles.cos(), angles.sin()], -1)  # of t base^(-2j / R), (T, R)                        (5)


def _pairs(x: Tensor, cos: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """The first and the second component of each pair, views of x: (..., T, R / 2) twice."""
    pairs = cos.shape[-1]
    if interleaved:
        return x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
    return x[..., :pairs], x[..., pairs : 2 * pairs]


def _joined(a: Tensor, b: Tensor, x: Tensor, interleaved: bool) -> Tensor:
    """Pairs a, b (..., T, R / 2) in the order of `_pairs`, and the rest of x behind them, in the dtype of x."""
    both = torch.stack([a, b], -1 if interleaved else -2).flatten(-2)
    return torch.cat([both.to(x.dtype), x[..., both.shape[-1] :]], -1)


def _spread(cos: Tensor, width: int, interleaved: bool) -> Tensor:
    """What each component is multiplied by: its pair's cosine, and 1 from R on; (T, R / 2) -> (T, D)."""
    both = torch.stack([cos, cos], -1 if interleaved else -2).flatten(-2)
    rest = width - both.shape[-1]
    return torch.cat([both, both.new_ones(*both.shape[:-1], rest)], -1) if rest > 0 else both


def _check_table(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    fits = cos.shape == sin.shape and cos.dim() >= 2 and x.dim() >= cos.dim() and cos.shape[-2] == x.shape[-2]
    if not fits or 2 * cos.shape[-1] > x.shape[-1]:
        given = f"x {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}"
        raise ShapeError(f"rotary: given {given}, expected (..., T, D) and twice (T, R / 2) with R at most D")


class RotaryPositions(Module):
    """Queries and keys turned by their positions, so that their products depend on the distance alone.

    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, section 3.2. No parameters, no
    state, and no longest text. Attention calls `rotate` and `rotate_backward`, which remember nothing; `forward` and
    `backward` are the same as a layer.

    Args:
        head_dim: D, the width of a query and of a key.
        base: pair j turns by base^(-2j / R) radians from one position to the next.
        rotary_dim: R, even: only the first R components are turned, as in GPT-NeoX; all of them if not given.
        interleaved: neighbours are a pair (the paper, GPT-J), instead of components R / 2 apart (GPT-NeoX, Llama).
        max_length: how many positions are computed at once; more are when they are first needed.
        device, dtype: where and as what; another one of x is followed.

    Raises:
        ValueError: R odd or not within 1 to D, `base` not positive, `max_length` or an offset negative.
        ShapeError: from `rotate` and the others, where x is not (..., T, D) or not floating.
    """

    def __init__(
        self,
        head_dim: int,
        *,
        base: float = 10000.0,
        rotary_dim: int | None = None,
        interleaved: bool = False,
        max_length: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        rotary_dim = head_dim if rotary_dim is None else rotary_dim
        if not 0 < rotary_dim <= head_dim or rotary_dim % 2 != 0:
            raise ValueError(
                f"RotaryPositions: given head_dim={head_dim} and rotary_dim={rotary_dim}, "
                "expected rotary_dim to be even, for pairs, and within 2 to head_dim"
            )
        if base <= 0 or max_length < 0:
            raise ValueError(
                f"RotaryPositions: given base={base}, max_length={max_length}, expected base > 0, max_length >= 0"
            )
        self.head_dim = head_dim
        self.base = base
        self.rotary_dim = rotary_dim
        self.interleaved = interleaved
        self._table = Table(partial(_cos_and_sin, rotary_dim=rotary_dim, base=base), max_length, device, dtype)

    def rotate(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., T, D) -> y (..., T, D); `offset` is how many tokens came before x (the length of the cache)."""
        return rotary(x, *self._table_at(x, offset), self.interleaved)

    def rotate_backward(self, dy: Tensor, offset: int = 0) -> Tensor:
        """dy (..., T, D) -> dx (..., T, D), under the offset of its `rotate`."""
        return rotary_backward(dy, *self._table_at(dy, offset), self.interleaved)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """`rotate` as a layer, which remembers the offset."""
        y = self.rotate(x, offset)
        self.save(offset)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy (..., T, D) -> dx (..., T, D)."""
        (offset,) = self.saved()
        return None if dy is None else self.rotate_backward(dy, offset)

    def _table_at(self, x: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        if x.dim() < 2 or x.shape[-1] != self.head_dim or not x.is_floating_point():
            raise ShapeError(
                f"{self!r}: given a tensor of shape {tuple(x.shape)} and {x.dtype}, "
                f"expected (..., T, {self.head_dim}) of a floating dtype"
            )
        check_offset(self, offset)
        cos, sin = self._table.rows(offset, offset + x.shape[-2], x).chunk(2, -1)
        return cos, sin

    def extra_repr(self) -> str:
        return (
            f"head_dim={self.head_dim}, base={self.base}, rotary_dim={self.rotary_dim}, interleaved={self.interleaved}"
        )
