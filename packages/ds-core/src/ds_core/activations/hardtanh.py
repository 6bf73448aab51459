"""The hard tanh: x, cut off at a lowest and a highest value. Theory: docs/hardtanh.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form


def plain_hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x -> y of the same shape, y = min(max(x, min_val), max_val)."""
    y = torch.clamp(x.detach(), min_val, max_val)
    low, high = _limits(x, min_val, max_val)
    # Autograd gives clamp the slope 1 at its limits, where ours and PyTorch's hardtanh have 0.
    return torch.where((low < y) & (y < high), x, y)


def plain_hardtanh_backward(dy: Tensor, y: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """dy, y -> dx, all of one shape."""
    low, high = _limits(y, min_val, max_val)
    return torch.where((low < y) & (y < high), dy, 0)  # dx = dy [min_val < y] [y < max_val]                (1)


# The fast pair needs one pass forward if autograd is off. Backward multiplies by numbers 0 or 1, in chunks that stay in
# the cache, because choosing is slow on a CPU.


@fast_form(plain_hardtanh)
def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x -> y of the same shape, y = min(max(x, min_val), max_val)."""
    return plain_hardtanh(x, min_val, max_val) if torch.is_grad_enabled() else torch.clamp(x, min_val, max_val)


@fast_form(plain_hardtanh_backward)
@compilable
def hardtanh_backward(dy: Tensor, y: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """dy, y -> dx, all of one shape."""
    low, high = _limits(y, min_val, max_val)

    def chain(dy: Tensor, y: Tensor, out: Out) -> tuple[Tensor]:
        # Each [...] is a number of the dtype of y, because arithmetic with booleans is slow on a CPU.
        dx = torch.mul(dy, y.clone().gt_(low), out=out[0])
        return (dx.mul_(y.clone().lt_(high)),)

    (dx,) = elementwise(chain, dy, y)
    return dx


def _limits(x: Tensor, min_val: float, max_val: float) -> tuple[Tensor, Tensor]:
    """Both, rounded as the dtype of `x` rounds them: an element that is cut off equals one of them."""
    low = torch.full((), min_val, dtype=x.dtype, device=x.device)
    return low, torch.full((), max_val, dtype=x.dtype, device=x.device)


class Hardtanh(Module):
    """y = min(max(x, min_val), max_val), element by element (Collobert, "Large Scale Machine Learning", 2004).

    Twin of torch.nn.Hardtanh; `inplace` and the deprecated `min_value` and `max_value` are left out. Keeps its output,
    which the layer above most often keeps too.

    Args:
        min_val: the lowest value of y.
        max_val: the highest.

    Raises:
        ValueError: `max_val` is not greater than `min_val`.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if max_val <= min_val:
            raise ValueError(
                f"{type(self).__name__}: given min_val={min_val} and max_val={max_val}, expected max_val > min_val"
            )
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        y = hardtanh(input, self.min_val, self.max_val)
        self.save(y)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (y,) = self.saved()
        return None if dy is None else hardtanh_backward(dy, y, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"
