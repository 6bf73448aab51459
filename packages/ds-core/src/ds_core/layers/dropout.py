"""Dropout: in training each number is set to zero with probability p. Theory: docs/dropout.md."""

import torch
from torch import Tensor

from ds_core.arguments import probability
from ds_core.engine.module import Module
from ds_core.engine.recompute import drawn
from ds_core.speed.precision import wide_dtype


def dropout(x: Tensor, dropout_mask: Tensor) -> Tensor:
    """x, dropout_mask of `draw_dropout_mask` -> y, all of one shape."""
    return x * dropout_mask


def dropout_backward(dy: Tensor, dropout_mask: Tensor) -> Tensor:
    """dy, dropout_mask -> dx, all of one shape."""
    return dy * dropout_mask  # dx = dy r                                                                   (1)


def draw_dropout_mask(x: Tensor, p: float) -> Tensor:
    """Independent numbers r of the shape and dtype of `x`: 0 with probability p, otherwise 1 / (1 - p).

    They are drawn once: a forward that runs again to save memory gets the same ones (`engine.recompute.drawn`).
    """
    return x.new_zeros(x.shape) if p == 1 else drawn(lambda: _new_mask(x, p))


def _new_mask(x: Tensor, p: float) -> Tensor:
    # floor(u) of u uniform in [1 - p, 2 - p) is 0 with probability p and else 1, and faster than bernoulli_.
    # A bfloat16 u would be too coarse to meet p.
    mask = torch.empty(x.shape, dtype=wide_dtype(x), device=x.device)
    return mask.uniform_(1 - p, 2 - p).floor_().mul_(1 / (1 - p)).to(x.dtype)


class Dropout(Module):
    """y = x r, each r 0 with probability p and otherwise 1 / (1 - p), so that E[y] = x; y = x in evaluation.

    Srivastava et al., "Dropout", 2014, scaled in training so that evaluation has nothing to do.
    Twin of torch.nn.Dropout, `inplace` left out. The draws come from the default generator, but they
    are not those that PyTorch makes from the same seed.

    Args:
        p: probability of zero, 0 ... 1.

    Raises:
        TypeError: where p is no number.
        ValueError: where p is outside 0 ... 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, "p", p)

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not self.training or self.p == 0:
            self.save(None)
            return input
        dropout_mask = draw_dropout_mask(input, self.p)
        self.save(dropout_mask)
        return dropout(input, dropout_mask)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (dropout_mask,) = self.saved()
        return dy if dy is None or dropout_mask is None else dropout_backward(dy, dropout_mask)

    def extra_repr(self) -> str:
        return f"p={self.p}"
