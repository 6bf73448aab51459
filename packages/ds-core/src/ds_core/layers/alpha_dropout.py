"""Alpha dropout, which keeps the mean 0 and the variance 1 that SELU needs. Theory: docs/alpha_dropout.md."""

import math

import torch
from torch import Tensor

from ds_core.arguments import probability
from ds_core.engine.module import Module
from ds_core.engine.recompute import drawn
from ds_core.engine.trace import reuse
from ds_core.speed.elementwise import Out, elementwise
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype

# What SELU tends to far below zero is -ALPHA: its factor 1.0507... times its 1.6732...
ALPHA = 1.0507009873554805 * 1.6732632423543772


def plain_alpha_dropout(x: Tensor, dropout_mask: Tensor, p: float) -> Tensor:
    """x, dropout_mask of `draw_alpha_dropout_mask` -> y, all of one shape."""
    # y = a (d (x + alpha) - (1 - p) alpha)                                                                  (4)
    return factor(p) * (dropout_mask * (x + ALPHA) - (1 - p) * ALPHA)


def plain_alpha_dropout_backward(dy: Tensor, dropout_mask: Tensor, p: float) -> Tensor:
    """dy, dropout_mask -> dx, all of one shape."""
    return factor(p) * dropout_mask * dy  # dx = a d dy                                                      (5)


def factor(p: float) -> float:
    """a, by which what is left is multiplied, so that the variance stays 1; 0 <= p < 1."""
    return 1 / math.sqrt((1 - p) * (1 + p * ALPHA**2))  # a = ((1 - p)(1 + p alpha^2))^(-1/2)                 (3)


# In chunks that stay in the cache, each step in the memory of the one before.
@fast_form(plain_alpha_dropout)
def alpha_dropout(x: Tensor, dropout_mask: Tensor, p: float) -> Tensor:
    """x, dropout_mask of `draw_alpha_dropout_mask` -> y, all of one shape."""

    def value(x: Tensor, dropout_mask: Tensor, out: Out) -> tuple[Tensor]:
        shifted = torch.add(x, ALPHA, out=out[0])
        y = torch.mul(shifted, dropout_mask, out=reuse(shifted))
        # y = a (d (x + alpha) - (1 - p) alpha)                                                              (4)
        y = torch.sub(y, (1 - p) * ALPHA, out=reuse(y))
        return (torch.mul(y, factor(p), out=reuse(y)),)

    (y,) = elementwise(value, x, dropout_mask)
    return y


@fast_form(plain_alpha_dropout_backward)
def alpha_dropout_backward(dy: Tensor, dropout_mask: Tensor, p: float) -> Tensor:
    """dy, dropout_mask -> dx, all of one shape."""

    def value(dy: Tensor, dropout_mask: Tensor, out: Out) -> tuple[Tensor]:
        dx = torch.mul(dy, dropout_mask, out=out[0])
        return (torch.mul(dx, factor(p), out=reuse(dx)),)  # dx = a d dy                                     (5)

    (dx,) = elementwise(value, dy, dropout_mask)
    return dx


def draw_alpha_dropout_mask(x: Tensor, p: float) -> Tensor:
    """Independent numbers d of the shape and dtype of `x`: 0 with probability p, otherwise 1.

    They are drawn once: a forward that runs again to save memory gets the same ones (`engine.recompute.drawn`).
    """

    def draw() -> Tensor:
        # as in dropout.py: a floor of uniform draws, in float32 for half precision
        mask = torch.empty(x.shape, dtype=wide_dtype(x), device=x.device)
        return mask.uniform_(1 - p, 2 - p).floor_().to(x.dtype)

    return drawn(draw)


class AlphaDropout(Module):
    """In training each number becomes -alpha with probability p, then all are scaled and shifted; y = x in evaluation.

    Klambauer et al., "Self-Normalizing Neural Networks", 2017, section "New Dropout Technique": an input of mean 0 and
    variance 1 keeps both. Twin of torch.nn.AlphaDropout, `inplace` left out. The draws come from the default
    generator, but they are not those that PyTorch makes from the same seed.

    Args:
        p: probability of -alpha, 0 ... 1; at 1 all becomes zero.

    Raises:
        TypeError: where p is no number.
        ValueError: where p is outside 0 ... 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability("AlphaDropout", "p", p)

    def forward(self, input: Tensor) -> Tensor:
        """input -> y of the same shape."""
        if not self.training or self.p == 0:
            self.save(None)
            return input
        if self.p == 1:
            zeros = torch.zeros_like(input)
            self.save(zeros)
            return input * zeros
        dropout_mask = draw_alpha_dropout_mask(input, self.p)
        self.save(dropout_mask)
        return alpha_dropout(input, dropout_mask, self.p)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of x."""
        (dropout_mask,) = self.saved()
        if dy is None or dropout_mask is None:
            return dy
        return dy * dropout_mask if self.p == 1 else alpha_dropout_backward(dy, dropout_mask, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
