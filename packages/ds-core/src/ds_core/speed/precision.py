"""The dtype that is calculated in: float32 for half precision, which is only stored, and otherwise the tensor's own.

Sums that go on over many batches or files (metrics, scaling, averages of weights) are taken in float64, by `.double()`.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def widened(x: Tensor) -> Tensor:
    """`x` in float32 if it is bfloat16 or float16, else `x` itself.

    bfloat16 keeps 8 significant bits: a sum of 256 ones and one more stays 256. As torch.nn
    does, layers that sum or exponentiate calculate in float32 and round their results once.
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype of `widened(x)`."""
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype


def to_floating(x: Tensor) -> Tensor:
    """`x` itself, or in torch's default dtype if it holds integers, as torch.sigmoid takes them."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


def under_autocast(x: Tensor) -> bool:
    """Whether `torch.autocast` is on for the device of `x`; it knows no device "meta"."""
    return x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)


def without_autocast(function: F) -> F:
    """Mark a function of tensors as one that chooses its precision itself, whatever autocast says.

    Under `torch.autocast` a product takes its inputs in half precision even if they were widened before. Scores of
    attention rounded so would be off by several per cent once they are exponentials.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        if not under_autocast(first):
            return function(*args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return function(*args, **kwargs)

    return cast(F, call)
