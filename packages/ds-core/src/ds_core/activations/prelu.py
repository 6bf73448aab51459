"""The parametric rectifier, a leaky rectifier that learns its negative slope. Theory: docs/prelu.md."""

import torch
from torch import Tensor

from ds_core.activations.leaky_relu import halves
from ds_core.activations.relu import relu
from ds_core.engine.module import Module
from ds_core.engine.parameter import accumulate, parameter
from ds_core.errors import ShapeError, check_against_weight
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import to_floating, widened

# N = batch, C = channels, ... = any further dimensions


def plain_prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, C, ...) and weight (C,), or x of any shape and weight (1,) -> y of the shape of x."""
    # At x = 0 autograd gives relu the slope 0 and clamp_max the slope 1: together a, as in PyTorch.
    return relu(x) + _along_channels(weight, x) * torch.clamp_max(x, 0)


def plain_prelu_backward(dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """dy, x (N, C, ...), weight (C,) or (1,) -> dx of the shape of x, dweight of the shape of weight."""
    dx = torch.where(x > 0, dy, _along_channels(weight, x) * dy)  # dx = dy [x > 0] + a_c dy [x <= 0]       (1)
    others = [dim for dim in range(x.dim()) if dim != 1 or weight.numel() == 1]
    products = dy * torch.clamp_max(x, 0)
    return dx, products.sum(others).view(weight.shape)  # da_c = sum_n dy_nc min(x_nc, 0)                   (2)


# The fast pair fuses product and sum, replaces the choice, which is slow on a CPU, by arithmetic, leaves out the
# gradient that is not needed, and computes half precision in float32.


@fast_form(plain_prelu)
@compilable
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, C, ...) and weight (C,), or x of any shape and weight (1,) -> y of the shape of x."""
    wide = widened(x)
    return torch.addcmul(relu(wide), torch.clamp_max(wide, 0), _along_channels(weight, wide)).to(x.dtype)


@fast_form(plain_prelu_backward)
@compilable
def prelu_backward(
    dy: Tensor, x: Tensor, weight: Tensor, needs: tuple[bool, bool] = (True, True)
) -> tuple[Tensor | None, Tensor | None]:
    """dy, x (N, C, ...), weight (C,) or (1,) -> dx of the shape of x, dweight of the shape of weight."""
    wide, wide_dy = widened(x), widened(dy)
    dx = dweight = None
    if needs[0]:
        dpositive, dnegative = halves(wide_dy, wide)
        dx = dpositive.addcmul_(dnegative, _along_channels(weight, wide)).to(x.dtype)
    if needs[1]:
        products = torch.clamp_max(wide, 0).mul_(wide_dy)
        others = [dim for dim in range(x.dim()) if dim != 1 or weight.numel() == 1]
        dweight = products.sum(others).view(weight.shape).to(weight.dtype)
    return dx, dweight


def _along_channels(weight: Tensor, x: Tensor) -> Tensor:
    """weight in the dtype of `x`, shaped to be multiplied with it."""
    shape = (weight.shape[0], *[1] * (x.dim() - 2)) if weight.numel() != 1 else ()
    return weight.to(x.dtype).view(shape)


class PReLU(Module):
    """y = max(x, 0) + a min(x, 0), with one learned a for all or one for each channel.

    He et al., "Delving Deep into Rectifiers", 2015. Twin of torch.nn.PReLU: one parameter, `weight` (num_parameters,).

    Args:
        num_parameters: 1, or C, the length of dimension 1 of x (of a batch of vectors, the features).
        init: a before training.

    Raises:
        ShapeError: from `forward`, if `num_parameters` is neither 1 nor C.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.num_parameters = num_parameters
        self.init = init
        self.weight = parameter(torch.full((num_parameters,), init, device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """input (N, C, ...), or of any shape with one parameter -> y of the same shape."""
        channels = input.shape[1] if input.dim() > 1 else 1
        # not `in`: sizes that a compiler traces are equal without being the same object
        if self.num_parameters != 1 and self.num_parameters != channels:
            raise ShapeError(
                f"{self!r}: given input of shape {tuple(input.shape)}, expected (N, {self.num_parameters}, ...)"
            )
        check_against_weight(self, input, self.weight)
        input = to_floating(input)
        self.save(input)
        return prelu(input, self.weight)

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> Tensor | None:
        """dy -> dx, both of the shape of x, or None without `input_gradient`; adds to the gradient of `weight`."""
        (x,) = self.saved()
        if dy is None:
            return None
        dx, dweight = prelu_backward(dy, x, self.weight, (input_gradient, self.weight.requires_grad))
        accumulate(self.weight, dweight)
        return dx

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"
