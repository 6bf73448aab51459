"""The hyperbolic tangent. Theory: docs/tanh.md."""

import torch
from ds_core import reuse
from ds_core.engine.precision import widened
from torch import Tensor


def tanh(x: Tensor) -> Tensor:
    """x -> y of the same shape: exact to rounding for small and large x, and so is autograd's gradient of it.

    y = t / (t + 2) with t = exp(2x) - 1, which loses no digits of a small x. Beyond 20 y is 1 in any dtype.
    bfloat16 and float16 are calculated in float32, in which exp(40) is finite, and rounded once.
    """
    t = torch.clamp_max(widened(x), 20)
    t = torch.mul(t, 2, out=reuse(t))
    t = torch.expm1(t, out=reuse(t))
    return torch.div(t, t + 2, out=reuse(t)).to(x.dtype)


def tanh_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y = tanh(x) -> dx, all of one shape."""
    return torch.addcmul(dy, dy, y * y, value=-1)  # dx = dy (1 - y^2)                                    (1)
