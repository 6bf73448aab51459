"""The angle between two vectors: small for pairs that belong together. Theory: docs/cosine_embedding.md."""

from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.errors import ShapeError, check_floating
from ds_core.losses.denominator import counted, per_element
from ds_core.losses.pointwise import common_dtype, common_shape, summed_to
from ds_core.losses.reduction import check_reduction, reduce, reduce_backward
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import widened

# N = batch, D = size of a vector; inputs without a batch are (D,), their target ()

EPSILON = 9.999999960041972e-13  # added to the squares of the lengths: PyTorch's 1e-12, which is a float32 there


def plain_cosine(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x1, x2 (N, D) -> their cosine and one over each length, (N,)."""
    s1, s2 = largest(x1), largest(x2)  # Divided by these, vectors of any length have squares that are finite.
    x1, x2 = x1 / s1.unsqueeze(-1), x2 / s2.unsqueeze(-1)
    r1 = 1 / torch.sqrt((x1 * x1).sum(-1) + EPSILON / s1 / s1)  # r = 1 / sqrt(x . x + eps)                 (1)
    r2 = 1 / torch.sqrt((x2 * x2).sum(-1) + EPSILON / s2 / s2)
    return (x1 * x2).sum(-1) * r1 * r2, r1 / s1, r2 / s2  # c = (x1 . x2) r1 r2                             (2)


def plain_cosine_backward(
    dcosine: Tensor, x1: Tensor, x2: Tensor, cosine: Tensor, scale1: Tensor, scale2: Tensor
) -> tuple[Tensor, Tensor]:
    """dcosine, cosine, scale1, scale2 (N,), x1, x2 (N, D) -> dx1, dx2 (N, D)."""
    dc, c, r1, r2 = (numbers.unsqueeze(-1) for numbers in (dcosine, cosine, scale1, scale2))  # (N, 1)
    dx1 = dc * r1 * (r2 * x2 - c * r1 * x1)  # dx1 = dc r1 (r2 x2 - c r1 x1)                                (3)
    dx2 = dc * r2 * (r1 * x1 - c * r2 * x2)  # dx2 = dc r2 (r1 x1 - c r2 x2)                                (4)
    return dx1, dx2


def plain_cosine_embedding(cosine: Tensor, target: Tensor, margin: float) -> Tensor:
    """cosine, target (1 or -1) -> losses (N,)."""
    together = torch.where(target == 1, 1 - cosine, 0.0)
    apart = torch.where(target == -1, torch.clamp_min(cosine - margin, 0), 0.0)
    return together + apart  # L = [t = 1] (1 - c) + [t = -1] max(c - margin, 0)                            (5)


def plain_cosine_embedding_backward(dlosses: Tensor, cosine: Tensor, target: Tensor, margin: float) -> Tensor:
    """dlosses, cosine, target -> dcosine (N,)."""
    near = (target == -1) & (cosine - margin >= 0)
    # dc = dL ([t = -1] [c >= margin] - [t = 1])                                                            (6)
    return dlosses * (near.to(cosine.dtype) - (target == 1).to(cosine.dtype))


# Backward brings each vector to the length 1 once, for both gradients.
@fast_form(plain_cosine)
@compilable
def cosine(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x1, x2 (N, D) -> their cosine and one over each length, (N,)."""
    s1, s2 = largest(x1), largest(x2)
    x1, x2 = x1 / s1.unsqueeze(-1), x2 / s2.unsqueeze(-1)
    scale1 = (x1 * x1).sum(-1).add(EPSILON / s1 / s1).rsqrt()  # r = 1 / sqrt(x . x + eps)                  (1)
    scale2 = (x2 * x2).sum(-1).add(EPSILON / s2 / s2).rsqrt()
    return (x1 * x2).sum(-1) * scale1 * scale2, scale1 / s1, scale2 / s2  # c = (x1 . x2) r1 r2             (2)


@fast_form(plain_cosine_backward)
@compilable
def cosine_backward(
    dcosine: Tensor, x1: Tensor, x2: Tensor, cosine: Tensor, scale1: Tensor, scale2: Tensor
) -> tuple[Tensor, Tensor]:
    """dcosine, cosine, scale1, scale2 (N,), x1, x2 (N, D) -> dx1, dx2 (N, D)."""
    unit1, unit2 = x1 * scale1.unsqueeze(-1), x2 * scale2.unsqueeze(-1)
    c = cosine.unsqueeze(-1)
    # dx1 = dc r1 (r2 x2 - c r1 x1)                                                                         (3)
    dx1 = torch.addcmul(unit2, c, unit1, value=-1).mul_((dcosine * scale1).unsqueeze(-1))
    # dx2 = dc r2 (r1 x1 - c r2 x2)                                                                         (4)
    dx2 = torch.addcmul(unit1, c, unit2, value=-1).mul_((dcosine * scale2).unsqueeze(-1))
    return dx1, dx2


def largest(x: Tensor) -> Tensor:
    """x (N, D) -> the largest size of a number in each vector, at least 1, (N,); a constant to autograd."""
    if x.shape[-1] == 0:
        return x.new_ones(x.shape[:-1])
    return torch.clamp_min(x.detach().abs().amax(-1), 1)


@fast_form(plain_cosine_embedding)
@compilable
def cosine_embedding(cosine: Tensor, target: Tensor, margin: float) -> Tensor:
    """cosine, target (1 or -1) -> losses (N,)."""
    # L = [t = 1] (1 - c) + [t = -1] max(c - margin, 0)                                                     (5)
    return torch.where(target == 1, 1 - cosine, 0.0) + torch.where(
        target == -1, torch.clamp_min(cosine - margin, 0), 0.0
    )


@fast_form(plain_cosine_embedding_backward)
@compilable
def cosine_embedding_backward(dlosses: Tensor, cosine: Tensor, target: Tensor, margin: float) -> Tensor:
    """dlosses, cosine, target -> dcosine (N,)."""
    near = (target == -1) & (cosine - margin >= 0)
    # dc = dL ([t = -1] [c >= margin] - [t = 1])                                                            (6)
    return near.to(cosine.dtype).sub_((target == 1).to(cosine.dtype)).mul_(dlosses)


class CosineEmbeddingLoss(Module):
    """1 - cos(input1, input2) where the target is 1, max(0, cos - margin) where it is -1; the mean over the batch.

    Twin of torch.nn.CosineEmbeddingLoss, the deprecated `size_average` and `reduce` left out. Keeps both inputs and
    the target, and three numbers for each pair.

    Args:
        margin: the cosine down to which a pair that does not belong together costs nothing, -1 ... 1, best 0 ... 0.5.
        reduction: "mean", "sum", or "none" for the loss of each pair.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes do not fit.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        self.reduction = check_reduction("CosineEmbeddingLoss", reduction)
        self.margin = margin

    def denominator(self, target: Tensor) -> Tensor | None:
        """What "mean" divides by: the number of labels, a tensor () of float64; None for other reductions."""
        return counted(target.numel(), target) if self.reduction == "mean" else None

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """Vectors (N, D) and labels (N,), or (D,) and () -> a scalar, with reduction "none" (N,).

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        self._check_shapes(input1, input2, target)
        cosines, scale1, scale2 = cosine(widened(input1), widened(input2))
        self.save(input1, input2, target, cosines, scale1, scale2, denominator)
        losses = cosine_embedding(cosines, target, self.margin)
        loss = reduce(losses, self.reduction, self._count(cosines, target, denominator))
        return loss.to(common_dtype(input1, input2))

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Any:
        """grad of the shape of the loss, None for 1 -> (dinput1, dinput2).

        Raises:
            ValueError: `target_gradient`, for labels have no gradient.
        """
        input1, input2, target, cosines, scale1, scale2, denominator = self.saved()
        if target_gradient:
            raise ValueError(f"{self!r}: target_gradient=True, but labels have no gradient")
        dlosses = reduce_backward(grad, self.reduction, self._count(cosines, target, denominator), cosines)
        dcosine = summed_to(cosine_embedding_backward(dlosses, cosines, target, self.margin), cosines.shape)
        dx1, dx2 = cosine_backward(dcosine, widened(input1), widened(input2), cosines, scale1, scale2)
        return summed_to(dx1, input1.shape).to(input1.dtype), summed_to(dx2, input2.shape).to(input2.dtype)

    def _count(self, cosines: Tensor, target: Tensor, denominator: Tensor | None) -> Tensor | int:
        pairs = common_shape(self, cosines=cosines, target=target)
        if denominator is None:
            return pairs.numel()
        return per_element(self, denominator, pairs, target.shape).to(cosines.dtype)

    def _check_shapes(self, x1: Tensor, x2: Tensor, target: Tensor) -> None:
        check_floating(self, input1=x1, input2=x2)
        if not (1 <= x1.dim() <= 2 and x1.dim() == x2.dim() == target.dim() + 1):
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in (x1, x2))
            raise ShapeError(
                f"{self!r}: given inputs {shapes} and target {tuple(target.shape)}, expected vectors (N, D) and "
                "labels (N,), or (D,) and ()"
            )
        common_shape(self, input1=x1, input2=x2)
        common_shape(self, input1=x1[..., :1], input2=x2[..., :1], target=target.unsqueeze(-1))

    def extra_repr(self) -> str:
        return f"margin={self.margin}, reduction={self.reduction!r}"
