"""Errors shared by all packages."""

from torch import Tensor


class ShapeError(ValueError, RuntimeError):
    """A tensor of a shape or dtype that the layer cannot take.

    A ValueError, as Python calls it, and a RuntimeError, as the torch.nn twin raises.
    """


def check_last_dimension(layer: str, x: Tensor, expected: int) -> None:
    """Raise `ShapeError` unless the last dimension of `x` is `expected` long."""
    if x.dim() == 0 or x.shape[-1] != expected:
        raise ShapeError(f"{layer}: given input of shape {tuple(x.shape)}, expected (..., {expected})")
