"""The hard sigmoid, a sigmoid of three straight lines. Theory: docs/hardsigmoid.md."""

import torch
from torch import Tensor

from ds_core.activations.hardtanh import hardtanh, plain_hardtanh
from ds_core.engine.module import Module
from ds_core.engine.trace import reuse
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form


def plain_hardsigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape: x / 6 + 1/2, cut off at 0 and 1."""
    return (plain_hardtanh(x, -3, 3) + 3) / 6  # y = (min(max(x, -3), 3) + 3) / 6                           (1)


def plain_hardsigmoid_backward(dy: Tensor, x: Tensor) -> Tensor:
    """dy, x -> dx, all of one shape."""
    return torch.where(torch.abs(x) < 3, dy / 6, 0)  # dx = dy / 6 [|x| < 3]                                (2)


# The fast pair multiplies by 1/6 and by numbers 0 or 1 instead of dividing and choosing, in the memory of the result
# and in chunks that stay in the cache.


@fast_form(plain_hardsigmoid)
@compilable
def hardsigmoid(x: Tensor) -> Tensor:
    """x -> y of the same shape: x / 6 + 1/2, cut off at 0 and 1."""
    (y,) = elementwise(_value, x)
    return y


@fast_form(plain_hardsigmoid_backward)
@compilable
def hardsigmoid_backward(dy: Tensor, x: Tensor) -> Tensor:
    """dy, x -> dx, all of one shape."""
    (dx,) = elementwise(_gradient, dy, x)
    return dx


def gate(near: Tensor, out: Tensor | None) -> Tensor:
    """near = min(max(x, -3), 3) -> y, in `out` if that is given."""
    t = torch.add(near, 3, out=out)
    return torch.mul(t, 1 / 6, out=reuse(t))


def _value(x: Tensor, out: Out) -> tuple[Tensor]:
    return (gate(hardtanh(x, -3, 3), out[0]),)


def _gradient(dy: Tensor, x: Tensor, out: Out) -> tuple[Tensor]:
    inside = torch.abs(x, out=out[0]).lt_(3)
    return (inside.mul_(1 / 6).mul_(dy),)


class Hardsigmoid(Module):
    """y = x / 6 + 1/2, cut off at 0 and 1, element by element (Howard et al., "Searching for MobileNetV3", 2019,
    section 5.2).

    Twin of torch.nn.Hardsigmoid, `inplace` left out. Keeps x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        self.save(input)
        return hardsigmoid(input)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (x,) = self.saved()
        return None if dy is None else hardsigmoid_backward(dy, x)
