"""The self-normalising unit: ELU, scaled so that mean 0 and variance 1 are a fixed point. Theory: docs/selu.md."""

from torch import Tensor

from ds_core.activations.elu import elu, elu_backward, elu_with_slope
from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.speed.compiled import compilable

ALPHA = 1.6732632423543772848170429916717
SCALE = 1.0507009873554804934193349852946


@compilable
def selu(x: Tensor) -> Tensor:
    """x -> y of the same shape: s x where x > 0, s a (exp(x) - 1) elsewhere."""
    return elu(x, ALPHA, SCALE)


@compilable
def selu_with_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """x -> y and dy/dx, both of the same shape; `elu_backward` is the backward of this too."""
    return elu_with_slope(x, ALPHA, SCALE)  # dy/dx = s [x > 0] + s a exp(x) [x <= 0]                       (2)


class SELU(Module):
    """y = s x where x > 0, s a (exp(x) - 1) elsewhere, with a = 1.6733 and s = 1.0507 (Klambauer et al.,
    "Self-Normalizing Neural Networks", 2017, equation 2).

    Twin of torch.nn.SELU, `inplace` left out. Keeps dy/dx, as many numbers as x has and in the place of x.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not recording():
            return selu(input)
        y, slope = selu_with_slope(input)
        self.save(slope)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (slope,) = self.saved()
        return None if dy is None else elu_backward(dy, slope)
