"""The ELU whose slope has no jump, whatever its alpha. Theory: docs/celu.md."""

from torch import Tensor

from ds_core.activations.elu import elu, elu_backward, elu_with_slope
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.speed.compiled import compilable


@compilable
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x -> y of the same shape: x where x > 0, alpha (exp(x / alpha) - 1) elsewhere."""
    return elu(x, alpha, input_scale=1 / alpha)


@compilable
def celu_with_slope(x: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape; `elu_backward` is the backward of this too."""
    return elu_with_slope(x, alpha, input_scale=1 / alpha)  # dy/dx = [x > 0] + exp(x / alpha) [x <= 0]         (1)


class CELU(Module):
    """y = x where x > 0, alpha (exp(x / alpha) - 1) elsewhere (Barron, "Continuously Differentiable Exponential
    Linear Units", 2017).

    Twin of torch.nn.CELU, `inplace` left out. Keeps dy/dx, as many numbers as x has and in the place of x.

    Args:
        alpha: what y tends to, negated, as x becomes very negative, and how far from 0 it bends; not 0.

    Raises:
        ValueError: where `alpha` is 0.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if alpha == 0:
            raise ValueError("CELU: given alpha=0, expected another number, as x is divided by it")
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return celu(input, self.alpha)
        y, slope = celu_with_slope(input, self.alpha)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else elu_backward(dy, slope)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"
