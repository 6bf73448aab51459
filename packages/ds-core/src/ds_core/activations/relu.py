"""The rectifier max(x, 0). Theory: docs/relu.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module


def relu(x: Tensor) -> Tensor:
    """x -> y of the same shape, y = max(x, 0)."""
    y = torch.clamp_min(x, 0)
    # Autograd gives clamp_min the slope 1 at x = 0, where ours and PyTorch's relu have 0; y sign(y) = y has it too.
    return y * torch.sign(y) if torch.is_grad_enabled() else y


def relu_backward(dy: Tensor, y: Tensor) -> Tensor:
    """dy, y -> dx, all of one shape."""
    return torch.sign(y).mul_(dy)  # dx = dy [y > 0]                                                        (1)


class ReLU(Module):
    """y = max(x, 0), element by element (Nair and Hinton, "Rectified Linear Units", 2010).

    Twin of torch.nn.ReLU. Keeps its output, which the layer above most often keeps too.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        y = relu(input)
        self.save(y)
        return y

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (y,) = self.saved()
        return None if dy is None else relu_backward(dy, y)
