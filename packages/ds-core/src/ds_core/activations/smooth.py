"""What smooth activations share: forward keeps the slope dy/dx, backward multiplies by it. Theory: docs/smooth.md."""

from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import recording


def slope_backward(dy: Tensor, slope: Tensor) -> Tensor:
    """dy, slope = dy/dx -> dx, all of one shape: the backward of every `..._with_slope`."""
    return dy * slope  # dx = dy dy/dx                                                                      (1)


class SmoothActivation(Module):
    """An activation, element by element, whose slope is cheapest to compute in forward, beside the value.

    While recording it keeps the slope, one tensor of the shape of x, and x itself may be freed. A new activation is a
    subclass with two methods, which call its pure functions:

        class SiLU(SmoothActivation):
            def value(self, x):
                return silu(x)

            def value_and_slope(self, x):
                return silu_with_slope(x)
    """

    def value(self, x: Tensor) -> Tensor:
        """x -> y of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} has no value(x)")

    def value_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> y and dy/dx, both of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} has no value_and_slope(x)")

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return self.value(input)
        y, slope = self.value_and_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else slope_backward(dy, slope)
