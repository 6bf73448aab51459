"""A fast function against the plain one it is linked to."""

from typing import Any

import torch
from torch import Tensor

from ds_core.engine.nested_values import map_leaves, pair_leaves
from ds_core.speed.plain import plain
from ds_core.testing.failure import CheckFailed


def check_plain(fast: Any, *args: Any, tolerance: float = 1e-12, **kwargs: Any) -> None:
    """Call `fast` as it is and inside `with plain():`, in float64, and compare all results.

    Both engines are tried: with autograd off, when fast forms write into memory they own, and with it on. A result that
    is None in the fast form (see `needs`) may be anything in the plain one.

    Args:
        fast: a function marked with `fast_form`.
        args, kwargs: its arguments; floating tensors are copied to float64 for each call.
        tolerance: the largest relative and absolute difference.

    Raises:
        CheckFailed: a result differs; the message names the function, the engine and the result.
    """

    name = f"{fast.__module__}.{fast.__qualname__}"

    def wide(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        copy = leaf.detach().clone()
        return copy.double() if copy.is_floating_point() else copy

    for engine in ("handwritten", "autograd"):
        with torch.set_grad_enabled(engine == "autograd"):
            found = fast(*map_leaves(wide, list(args)), **map_leaves(wide, kwargs))
            with plain():
                expected = fast(*map_leaves(wide, list(args)), **map_leaves(wide, kwargs))
        for index, (one, other) in enumerate(pair_leaves(found, expected)):
            if one is None:
                continue
            if not isinstance(one, Tensor) or not isinstance(other, Tensor):
                if one != other:
                    raise CheckFailed(name, engine, f"result {index}: the fast form gives {one!r}, the plain {other!r}")
                continue
            try:
                torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
            except AssertionError as error:
                raise CheckFailed(name, engine, f"result {index}: fast and plain form differ: {error}") from None
