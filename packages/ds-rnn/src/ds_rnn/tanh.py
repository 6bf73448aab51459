"""The hyperbolic tangent. Theory: docs/tanh.md."""

import torch
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    """x (...) -> y (...), exact to rounding from the smallest x to the largest, and so is autograd's gradient of it.

    With t = exp(-2|x|) - 1, which neither overflows nor loses the digits of a small x, tanh |x| = -t / (t + 2).
    """
    negative = x < 0
    t = torch.expm1(torch.where(negative, 2 * x, -2 * x))
    y = -t / (t + 2)
    return torch.where(negative, -y, y)


def tanh_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy (...), y = tanh(x) (...) -> dx (...)."""
    return dy * (1 - y * y)  # dx = dy (1 - y^2)                                                          (1)
