"""The keys and values of the tokens so far, so that each new token costs one step. Theory: docs/cache.md."""

from typing import Any, NamedTuple

import torch
from ds_core import ShapeError, recording
from torch import Tensor

# B = batch, H = heads, T = new tokens, L = tokens so far, D = width of a head


class KeyValueCache:
    """Room for the keys and values of one attention layer, (B, H, max_length, D) each, filled from the front.

    Nothing is copied when tokens come: they are written in their place, and `append` answers with views.
    Written under `no_record()` only: a cache takes no part in training.

    Args:
        batch_size, num_heads, max_length, head_dim: B, H (of keys and values), the most tokens it can hold, D.
    """

    def __init__(
        self,
        batch_size: int,
        num_heads: int,
        max_length: int,
        head_dim: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = (batch_size, num_heads, max_length, head_dim)
        if min(sizes) < 0:
            raise ValueError(f"KeyValueCache: given (batch, heads, max_length, head_dim) = {sizes}, expected >= 0")
        self._key = torch.empty(sizes, device=device, dtype=dtype)
        self._value = torch.empty(sizes, device=device, dtype=dtype)
        self._length = 0
        self._owner: Any = None

    @property
    def length(self) -> int:
        """L, the number of tokens it holds."""
        return self._length

    @property
    def max_length(self) -> int:
        return self._key.shape[2]

    def reset(self) -> None:
        """Forget all tokens, and whose they were; the memory stays."""
        self._length = 0
        self._owner = None

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens, to go on from there another way."""
        if not 0 <= length <= self._length:
            raise ValueError(f"KeyValueCache: holds {self._length} tokens, cannot go back to {length}")
        self._length = length

    def select(self, rows: Tensor) -> None:
        """Example i goes on from the tokens of example rows[i], rows (B',) int64: what a beam search asks for.

        The cache then has B' examples: fewer where some are done with.

        Raises:
            ShapeError: rows that are no list of numbers.
        """
        if rows.dim() != 1 or rows.dtype != torch.int64:
            raise ShapeError(f"{self!r}: given rows {tuple(rows.shape)} of {rows.dtype}, expected (B,) of int64")
        self._key, self._value = (self._moved(buffer, rows, self.max_length) for buffer in (self._key, self._value))

    def reserve(self, max_length: int) -> None:
        """Make room for `max_length` tokens in all, if there is less; those that it holds are copied."""
        if max_length > self.max_length:
            self._key, self._value = (self._moved(buffer, None, max_length) for buffer in (self._key, self._value))

    def _moved(self, buffer: Tensor, rows: Tensor | None, max_length: int) -> Tensor:
        filled = buffer[:, :, : self._length]
        filled = filled if rows is None else filled.index_select(0, rows)
        moved = buffer.new_empty(filled.shape[0], buffer.shape[1], max_length, buffer.shape[3])
        moved[:, :, : self._length] = filled
        return moved

    def append(self, key: Tensor, value: Tensor, owner: Any = None) -> tuple[Tensor, Tensor]:
        """Write T new tokens, key and value (B, H, T, D); returns those of all tokens so far, (B, H, L, D).

        The results are views of the buffers: they stay right until `reset`, `truncate` or `select`.

        Args:
            owner: the layer whose keys these are. The first one owns the cache until `reset`: keys of two layers, or
                of two models, in one cache would be nonsense.

        Raises:
            ShapeError: another batch, number of heads, width, dtype or device; or no room for T more tokens.
            RuntimeError: where the engine records, or autograd is on.
            ValueError: the cache holds tokens of another layer.
        """
        if recording() or torch.is_grad_enabled():
            raise RuntimeError("KeyValueCache: a cache keeps nothing for a backward; generate under no_record()")
        if self._owner is not None and owner is not self._owner:
            raise ValueError(
                f"{self!r} holds the keys of another layer: every layer needs a cache of its own, and reset() makes it "
                "free for another model"
            )
        batch, heads, _, width = self._key.shape
        new = key.shape[2] if key.dim() == 4 else 0
        expected = (batch, heads, new, width)
        if key.shape != expected or value.shape != expected:
            raise ShapeError(
                f"KeyValueCache: given key {tuple(key.shape)} and value {tuple(value.shape)}, "
                f"expected (B, H, T, D) with B={batch}, H={heads}, D={width}"
            )
        if key.dtype != self._key.dtype or value.dtype != self._key.dtype:
            raise ShapeError(f"KeyValueCache: given dtypes {key.dtype}, {value.dtype}, expected {self._key.dtype}")
        if key.device != self._key.device or value.device != self._key.device:
            raise ShapeError(f"KeyValueCache: given keys on {key.device}, expected them on {self._key.device}")
        start, end = self._length, self._length + new
        if end > self.max_length:
            raise ShapeError(
                f"KeyValueCache: holds {start} of at most {self.max_length} tokens, no room for {new} more"
            )
        self._key[:, :, start:end] = key
        self._value[:, :, start:end] = value
        self._length = end
        self._owner = owner
        return self._key[:, :, :end], self._value[:, :, :end]

    def __repr__(self) -> str:
        batch, heads, length, width = self._key.shape
        return (
            f"KeyValueCache(batch_size={batch}, num_heads={heads}, max_length={length}, head_dim={width}, "
            f"length={self._length})"
        )


class ProjectedMemory(NamedTuple):
    """The keys and values of a memory, which stay the same while a text is written: made by `CrossAttention.project`.

    Args:
        key, value: (B, G, Tk, D).
        owner: the layer that made them; no other one takes them.
    """

    key: Tensor
    value: Tensor
    owner: Any
