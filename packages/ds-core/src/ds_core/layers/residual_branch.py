"""The sum that ends every branch, y = x + f(x), and its backward. Theory: docs/residual_branch.md."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ds_core.engine.composition import backward_through, merge_gradients
from ds_core.engine.trace import reuse
from ds_core.speed.plain import fast_form


def plain_add_branch(x: Tensor, branch: Tensor, new: bool = True) -> Tensor:
    """x, branch (...) -> y (...)."""
    return x + branch  # y = x + f(x)


def plain_add_skip(dy: Tensor | None, dbranch: Tensor | None) -> Tensor | None:
    """dy, dbranch (...) -> dx (...); None means zeros."""
    return merge_gradients(dy, dbranch)  # dx = dy + f'(x)^T dy                                             (1)


# The fast pair writes both sums into the memory of the branch, unless somebody else holds it: no new tensor for either.


@fast_form(plain_add_branch)
def add_branch(x: Tensor, branch: Tensor, new: bool = True) -> Tensor:
    """x, branch (...) -> y = x + branch (...), in the memory of `branch` if it is `new`: nobody else holds it then."""
    return torch.add(x, branch, out=reuse(branch) if new and x.dtype == branch.dtype else None)


@fast_form(plain_add_skip)
def add_skip(dy: Tensor | None, dbranch: Tensor | None) -> Tensor | None:
    """dy, which skips the branch, and dbranch, which came through it (...) -> dx (...), in the memory of `dbranch`.

    None means zeros. Nobody else may hold `dbranch`; but if it shares its memory with dy, as behind an identity, the
    sum is a new tensor.
    """
    if dy is None or dbranch is None or dbranch.dtype != dy.dtype:
        return merge_gradients(dy, dbranch)
    out = reuse(dbranch)
    if out is not None and out.untyped_storage().data_ptr() == dy.untyped_storage().data_ptr():
        out = None
    return torch.add(dy, dbranch, out=out)


def add_branch_backward(dy: Tensor | None, layers: Sequence[Any], input_gradient: bool) -> Tensor | None:
    """dy (...) -> dx (...), or None without `input_gradient`; the branch is `layers`, called one after the other.

    The gradient that the first of the layers makes is new, as that of a norm, an attention or a linear layer, or it
    shares its memory with the given one, as that of an identity.
    """
    dbranch: Tensor | None = backward_through(layers, dy, input_gradient=input_gradient)
    return add_skip(dy, dbranch) if input_gradient else None
