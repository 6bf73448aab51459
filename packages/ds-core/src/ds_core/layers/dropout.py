"""Dropout: in training each number is set to zero with probability p. Theory: docs/dropout.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.recompute import drawn
from ds_core.speed.precision import widened


def draw_noise(x: Tensor, p: float) -> Tensor:
    """Independent numbers of the shape and dtype of `x`: 0 with probability p, otherwise 1 / (1 - p); 0 <= p < 1."""
    # floor(u) of u uniform in [1 - p, 2 - p) is 0 with probability p and else 1, and faster than bernoulli_.
    # A bfloat16 u would be too coarse to meet p.
    noise = torch.empty(x.shape, dtype=widened(x).dtype, device=x.device)
    return noise.uniform_(1 - p, 2 - p).floor_().mul_(1 / (1 - p)).to(x.dtype)


def drawn_noise(x: Tensor, p: float) -> Tensor:
    """`draw_noise`, also for p = 1, and replayed where a forward runs again (`engine.recompute.drawn`)."""
    return x.new_zeros(x.shape) if p == 1 else drawn(lambda: draw_noise(x, p))


def dropout(x: Tensor, noise: Tensor) -> Tensor:
    """x, noise -> y, all of one shape."""
    return x * noise


def dropout_backward(dy: Tensor, noise: Tensor) -> Tensor:
    """dy, noise -> dx, all of one shape."""
    return dy * noise  # dx = dy noise                                                                      (1)


class Dropout(Module):
    """y = x noise, each noise 0 with probability p and otherwise 1 / (1 - p), so that E[y] = x; y = x in evaluation.

    Srivastava et al., "Dropout", 2014, scaled in training so that evaluation has nothing to do.
    Twin of torch.nn.Dropout, `inplace` left out. The draws come from the default generator, but they
    are not those that PyTorch makes from the same seed.

    Args:
        p: probability of zero, 0 ... 1.

    Raises:
        ValueError: where p is outside 0 ... 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: given p={p}, expected a probability between 0 and 1")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not self.training or self.p == 0:
            self.save(None)
            return input
        noise = drawn_noise(input, self.p)
        self.save(noise)
        return dropout(input, noise)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (noise,) = self.saved()
        return dy if dy is None or noise is None else dropout_backward(dy, noise)

    def extra_repr(self) -> str:
        return f"p={self.p}"
