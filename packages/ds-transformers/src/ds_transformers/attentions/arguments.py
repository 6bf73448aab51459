"""What attention can be given: tensors whose shapes fit, masks of any number. Theory: docs/attention.md."""

import math

import torch
from ds_core import ShapeError
from ds_core.speed.exponential import LOG2_E
from torch import Tensor

# B = batch, H = heads, Tq = queries, Tk = keys, D = width of a query and a key, V = width of a value


def check_attention(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, dropout_mask: Tensor | None
) -> None:
    """Raise ShapeError unless the arguments of `attention` fit each other."""
    same = query.dim() == key.dim() == value.dim() == 4 and query.shape[:2] == key.shape[:2] == value.shape[:2]
    if not (same and query.shape[3] == key.shape[3] and key.shape[2] == value.shape[2]):
        shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
        raise ShapeError(f"attention: given {shapes}, expected (B, H, Tq, D), (B, H, Tk, D), (B, H, Tk, V)")
    full = (*query.shape[:3], key.shape[2])
    if visible is not None:
        if visible.dtype != torch.bool and not visible.is_floating_point():
            raise ShapeError(f"attention: given visible of {visible.dtype}, expected torch.bool or a floating dtype")
        sizes = zip(reversed(visible.shape), reversed(full), strict=False)
        if visible.dim() > 4 or any(given not in (1, size) for given, size in sizes):
            raise ShapeError(
                f"attention: given visible {tuple(visible.shape)}, expected a shape that broadcasts to {full}"
            )
    if dropout_mask is not None and dropout_mask.shape != full:
        raise ShapeError(f"attention: given dropout_mask {tuple(dropout_mask.shape)}, expected {full}")


def added_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """A floating `visible`, in `dtype`, as what is added to scores.

    The most negative number, which hides less than -inf does, has to stay finite in base 2 too, times log2(e).
    """
    smallest = torch.finfo(dtype).min / (LOG2_E + 1e-6)
    return visible.to(dtype).clamp(min=smallest).masked_fill_(visible == -math.inf, -math.inf)
