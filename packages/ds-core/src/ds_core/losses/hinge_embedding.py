"""A distance that is to be small for pairs that belong together and above a margin for others.

Theory: docs/hinge_embedding.md.
"""

import torch
from torch import Tensor

from ds_core.losses.pointwise import PointwiseLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form


def plain_hinge_embedding(x: Tensor, target: Tensor, margin: float) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    # L = [t != -1] x + [t != 1] max(margin - x, 0)                                                         (1)
    return torch.where(target != -1, x, 0.0) + torch.where(target != 1, torch.clamp_min(margin - x, 0), 0.0)


def plain_hinge_embedding_backward(dlosses: Tensor, x: Tensor, target: Tensor, margin: float) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    near = (target != 1) & (x <= margin)
    # dx = dL ([t != -1] - [t != 1] [x <= margin])                                                          (2)
    return dlosses * ((target != -1).to(x.dtype) - near.to(x.dtype))


# The same, written into memory that the caller may give.
@fast_form(plain_hinge_embedding)
@compilable
def hinge_embedding(x: Tensor, target: Tensor, margin: float, out: Tensor | None = None) -> Tensor:
    """x, target (1 or -1) -> losses, all of one shape."""
    # L = [t != -1] x + [t != 1] max(margin - x, 0)                                                         (1)
    near = torch.clamp_min(margin - x, 0)
    return torch.add(torch.where(target != -1, x, 0.0), torch.where(target != 1, near, 0.0), out=out)


@fast_form(plain_hinge_embedding_backward)
@compilable
def hinge_embedding_backward(
    dlosses: Tensor, x: Tensor, target: Tensor, margin: float, out: Tensor | None = None
) -> Tensor:
    """dlosses (of their shape or one for all), x, target -> dx."""
    pushed = (target != 1) & (margin - x >= 0)
    # dx = dL ([t != -1] - [t != 1] [x <= margin])                                                          (2)
    return torch.sub((target != -1).to(x.dtype), pushed.to(x.dtype), out=out).mul_(dlosses)


class HingeEmbeddingLoss(PointwiseLoss):
    """The input where the target is 1, max(margin - input, 0) where it is -1; the mean over all elements.

    Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping", 2006, with distances that are not
    squared. Twin of torch.nn.HingeEmbeddingLoss, the deprecated `size_average` and `reduce` left out. Keeps the input
    and the target. Shapes that differ are broadcast.

    Args:
        margin: the distance from which on a pair that does not belong together costs nothing.
        reduction: "mean", "sum", or "none" for the loss of each element.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes cannot be broadcast.
    """

    labels = True

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None) -> Tensor:
        return hinge_embedding(x, target, self.margin, out)

    def gradients(
        self, dlosses: Tensor, x: Tensor, target: Tensor, needs: tuple[bool, bool], out: Out
    ) -> tuple[Tensor, None]:
        return hinge_embedding_backward(dlosses, x, target, self.margin, out[0]), None

    def extra_repr(self) -> str:
        return f"margin={self.margin}, {super().extra_repr()}"
