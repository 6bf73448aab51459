"""Weights that are given and not drawn: a constant, or a layer that hands its input on. Theory: docs/initializers.md.

As all initializers, these fill a tensor in place, unseen by autograd, and return it.
"""

import torch
from torch import Tensor

from ds_core.errors import ShapeError


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every number `val`, whatever the shape. Twin of torch.nn.init.constant_."""
    with torch.no_grad():
        return tensor.fill_(val)


def zeros_(tensor: Tensor) -> Tensor:
    """Every number 0, whatever the shape. Twin of torch.nn.init.zeros_."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Every number 1, whatever the shape. Twin of torch.nn.init.ones_."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix, else 0: y = W x hands on as many numbers as fit. Twin of torch.nn.init.eye_.

    Raises:
        ShapeError: the tensor has not 2 dimensions.
    """
    if tensor.dim() != 2:
        raise ShapeError(f"eye_: given shape {tuple(tensor.shape)}. Only tensors with 2 dimensions are supported")
    zeros_(tensor)
    with torch.no_grad():
        tensor.diagonal().fill_(1)
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution that hands on as many channels as fit. Twin of torch.nn.init.dirac_.

    Args:
        tensor: (out_channels, in_channels / groups, ...) with 1, 2 or 3 dimensions of space.
        groups: those of the convolution; each hands on its own channels.

    Raises:
        ShapeError: another number of dimensions, or `groups` does not divide the first.
    """
    shape = tuple(tensor.shape)
    if tensor.dim() not in (3, 4, 5):
        raise ShapeError(f"dirac_: given shape {shape}. Only tensors with 3, 4, or 5 dimensions are supported")
    if groups < 1 or shape[0] % groups != 0:
        raise ShapeError(f"dirac_: given shape {shape} and groups={groups}. dim 0 must be divisible by groups")
    zeros_(tensor)
    centre = tensor
    for length in reversed(shape[2:]):
        centre = centre.select(-1, length // 2)
    with torch.no_grad():
        for group in range(groups):
            centre.narrow(0, group * (shape[0] // groups), shape[0] // groups).diagonal().fill_(1)
    return tensor
