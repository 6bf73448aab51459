"""Attention with linear biases: keys lose by their distance, each head at its own rate. Theory: docs/alibi.md."""

import torch
from ds_core import Module
from ds_core.speed.precision import wide_dtype
from torch import Tensor

# H = heads, Tq = queries, Tk = keys


def alibi_slopes(num_heads: int) -> list[float]:
    """What head h loses for each token of distance, m_h, for h = 1 ... H (Press et al., 2022, section 3).

    Where H is no power of two, as in the authors' code: the slopes of the next lower power P, and then the first,
    third, fifth ... of those of 2P.
    """
    if num_heads <= 0:
        raise ValueError(f"alibi_slopes: given num_heads={num_heads}, expected 1 or more")
    power = 1 << (num_heads.bit_length() - 1)
    slopes = [2 ** (-8 * head / power) for head in range(1, power + 1)]  # m_h = 2^(-8 h / P)                (1)
    # m_(P + k) = 2^(-8 (2k - 1) / (2P))                                                                     (2)
    return slopes + [2 ** (-4 * (2 * extra - 1) / power) for extra in range(1, num_heads - power + 1)]


def alibi_bias(
    num_heads: int,
    queries: int,
    keys: int,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """What is added to the scores, `visible` of `attention`: (1, H, Tq, Tk), a quadratic number of numbers.

    The last query stands where the last key does, as with `causal`. Keys after the query lose as those before it do,
    so it serves without the causal mask too.

    Args:
        dtype, device: of the result; torch's defaults if not given.
    """
    if queries < 0 or keys < 0:
        raise ValueError(f"alibi_bias: given queries={queries}, keys={keys}, expected 0 or more")
    result = torch.empty((), dtype=dtype)
    wide = wide_dtype(result)
    slopes = torch.tensor(alibi_slopes(num_heads), dtype=wide, device=device).view(num_heads, 1, 1)
    positions = torch.arange(keys - queries, keys, device=device).unsqueeze(1)  # i + Tk - Tq of each query, (Tq, 1)
    distances = (positions - torch.arange(keys, device=device)).abs().to(wide)
    bias = (distances * slopes.neg()).to(result.dtype)  # bias_hij = -m_h |i + Tk - Tq - j|                 (3)
    return bias.unsqueeze(0)


class AlibiPositions(Module):
    """The biases for one number of heads (Press et al., "Train Short, Test Long", 2022). No parameters, no gradient.

    Args:
        num_heads: H.

    Raises:
        ValueError: H not positive; from `bias`, a negative length.
    """

    def __init__(self, num_heads: int) -> None:
        self.num_heads = num_heads
        self.slopes = alibi_slopes(num_heads)

    def bias(self, queries: int, keys: int, like: Tensor) -> Tensor:
        """(1, H, Tq, Tk), on the device of `like` and in its dtype, but float32 where that is half precision.

        Under a causal mask `bias(1, keys, like)`, (1, H, 1, Tk), does the same for any number of queries in linear
        memory: what is the same for all keys of a query changes no probability.
        """
        return alibi_bias(self.num_heads, queries, keys, dtype=wide_dtype(like), device=like.device)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"
