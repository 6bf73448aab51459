"""Parts of one large batch, each counted by what it holds. Theory: docs/denominator.md."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.nested_values import items_of, rebuild
from ds_core.errors import ShapeError

# A part is a micro-batch, or one process's share of it: m of M. D is the denominator of the whole, D_m that of a part.


def denominator_of(loss: Any, inputs: Any, target: Any) -> Any:
    """D_m: what a mean over this part alone is divided by.

    It is for the loss to say: `loss.denominator(target)`. A loss without that method is taken for a mean over rows.

    Returns:
        A tensor () of float64, or a structure of them where a loss has several; None where nothing is divided by
        anything, so that parts are added up as they are.
    """
    if _says_it(loss):
        return loss.denominator(target)
    return rows_denominator(inputs, target)


def rows_denominator(inputs: Any, target: Any) -> Tensor:
    """The rows of the part, by which a mean over them is divided: those of the inputs, or else of the target, or 1."""
    return counted(_rows(inputs, target), inputs, target)


def total(parts: Sequence[Any]) -> Any:
    """What all parts hold together; each is what `denominator_of` gave."""
    whole = parts[0]
    for part in parts[1:]:
        whole = add_nested(whole, part)  # D = sum_m D_m                                                    (2)
    return whole


def forward_part(loss: Any, predictions: tuple[Any, ...], inputs: Any, target: Any, denominator: Any) -> Tensor:
    """A part's share S_m / D of the loss of the whole; `denominator` is D, or None where the part is the whole."""
    if denominator is None or not _says_it(loss):
        value: Tensor = loss.forward(*predictions, target)
        if denominator is None:
            return value
        share = _share(inputs, target, denominator, value)
        return torch.where(share == 0, 0.0, value * share)  # L_m D_m / D; without rows L_m is no number    (4)
    return loss.forward(*predictions, target, denominator=denominator)  # type: ignore[no-any-return]


def backward_part(
    loss: Any, grad: Tensor | None, inputs: Any, target: Any, denominator: Any, value: Tensor, **options: bool
) -> Any:
    """What `loss.backward(grad)` gives for that share; `value` is a tensor of the loss's dtype."""
    if denominator is not None and not _says_it(loss):
        share = _share(inputs, target, denominator, value)
        grad = share if grad is None else grad * share  # dL_m = dL D_m / D                                 (5)
    return loss.backward(**options) if grad is None else loss.backward(grad, **options)


def counted(number: int, *values: Any) -> Tensor:
    """`number` as a tensor () of float64, on the device of the first tensor among the values."""
    first = _first_tensor(values)
    return torch.full((), number, dtype=torch.float64, device=None if first is None else first.device)


def per_element(loss: object, denominator: Tensor, losses: torch.Size, target: torch.Size) -> Tensor:
    """D in elements of the losses, given in elements of targets, each of which may be broadcast to several.

    Raises:
        ShapeError: the target has no row for each row of the losses, so it does not say how many there are.
    """
    if losses == target:
        return denominator
    if len(target) != len(losses) or target[0] != losses[0]:
        raise ShapeError(
            f"{loss!r}: given a target {tuple(target)} for losses {tuple(losses)}, expected as many rows in the "
            "target: where several micro-batches or processes make one batch, they are counted by their targets"
        )
    return denominator * (math.prod(losses[1:]) // max(math.prod(target[1:]), 1))


def rows_of(value: Any) -> int | None:
    """The length of the first list, or the first dimension of the first tensor, in `value`; None if there is none."""
    if isinstance(value, list):
        return len(value)
    if isinstance(value, Tensor):
        return value.shape[0] if value.dim() > 0 else None
    for item in items_of(value) or []:
        rows = rows_of(item)
        if rows is not None:
            return rows
    return None


def add_nested(first: Any, second: Any) -> Any:
    """first + second, tensor by tensor; None stands for nothing."""
    if first is None or second is None:
        return second if first is None else first
    items = items_of(first)
    if items is None:
        return first + second
    return rebuild(first, [add_nested(a, b) for a, b in zip(items, items_of(second) or [], strict=True)])


def _says_it(loss: Any) -> bool:
    return callable(getattr(loss, "denominator", None))


def _rows(inputs: Any, target: Any) -> int:
    rows = rows_of(inputs)
    if rows is None:
        rows = rows_of(target)
    return 1 if rows is None else rows


def _share(inputs: Any, target: Any, denominator: Tensor, value: Tensor) -> Tensor:
    return (_rows(inputs, target) / denominator).to(value.dtype)


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    for item in items_of(value) or []:
        found = _first_tensor(item)
        if found is not None:
            return found
    return None
