"""Stochastic depth: in training a whole branch is left out with probability p. Theory: docs/stochastic_depth.md."""

from ds_core import Module, ShapeError
from ds_core.layers.dropout import draw_dropout_mask
from torch import Tensor

# B = batch, the first dimension


def stochastic_depth(x: Tensor, dropout_mask: Tensor) -> Tensor:
    """x (B, ...), dropout_mask (B, 1, ..., 1) or (1, ..., 1) -> y (B, ...)."""
    return x * dropout_mask


def stochastic_depth_backward(dy: Tensor, dropout_mask: Tensor) -> Tensor:
    """dy (B, ...), dropout_mask (B, 1, ..., 1) or (1, ..., 1) -> dx (B, ...)."""
    return dy * dropout_mask  # dx = dy r                                                                   (1)


def depth_rates(layers: int, last: float) -> list[float]:
    """The probabilities of the blocks 1 ... L of a stack by the linear rule p_l = l / L p_L.

    Huang et al., 2016, equation 4, whose probabilities are those of a branch that stays.

    Args:
        layers: L.
        last: p_L, that of the last block.

    Raises:
        ValueError: where there is less than no layer, or `last` is outside 0 ... 1.
    """
    if layers < 0:
        raise ValueError(f"depth_rates: given layers={layers}, expected 0 or more")
    if not 0 <= last <= 1:
        raise ValueError(f"depth_rates: given last={last}, expected a probability between 0 and 1")
    return [last * layer / layers for layer in range(1, layers + 1)]  # p_l = p_L l / L                     (2)


class StochasticDepth(Module):
    """y = x r, one r for an example: 0 with probability p and otherwise 1 / (1 - p); y = x in evaluation.

    Huang et al., "Deep Networks with Stochastic Depth", 2016, scaled in training so that evaluation has nothing to do.
    Stands at the end of a branch, before it is added. Twin of torchvision.ops.StochasticDepth; the draws come from the
    default generator, but they are not those that PyTorch makes from the same seed.

    Args:
        p: probability that the branch is left out, 0 ... 1.
        mode: "row", each example has its own draw, or "batch", one draw for all.

    Raises:
        ValueError: p outside 0 ... 1, or another mode.
        ShapeError: from `forward`, if the input has no dimensions and the mode is "row".
    """

    def __init__(self, p: float, mode: str = "row") -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"StochasticDepth: given p={p}, expected a probability between 0 and 1")
        if mode not in ("row", "batch"):
            raise ValueError(f'StochasticDepth: given mode={mode!r}, expected "row" or "batch"')
        self.p = p
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        """input (B, ...) -> y of the same shape."""
        if self.mode == "row" and input.dim() == 0:
            raise ShapeError(f"{self!r}: given input of shape (), expected examples along the first dimension")
        if not self.training or self.p == 0:
            self.save(None)
            return input
        shape = (input.shape[0] if self.mode == "row" else 1, *[1] * (input.dim() - 1)) if input.dim() > 0 else ()
        dropout_mask = draw_dropout_mask(input.new_empty(()).expand(shape), self.p)
        self.save(dropout_mask)
        return stochastic_depth(input, dropout_mask)

    def backward(self, dy: Tensor | None) -> Tensor | None:
        """dy -> dx, both of the shape of the input."""
        (dropout_mask,) = self.saved()
        return dy if dy is None or dropout_mask is None else stochastic_depth_backward(dy, dropout_mask)

    def extra_repr(self) -> str:
        return f"p={self.p}, mode={self.mode!r}"
