"""The hinge loss of many classes: the true one is to lead every other by a margin. Theory: docs/multi_margin.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.errors import ShapeError, check_floating
from ds_core.losses.class_targets import check_class_weight, check_classes
from ds_core.losses.denominator import counted
from ds_core.losses.reduction import check_reduction, reduce, reduce_backward
from ds_core.speed.compiled import compilable
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype, widened

# N = batch, C = classes


def plain_multi_margin(x: Tensor, classes: Tensor, p: int, margin: float, weight: Tensor | None) -> Tensor:
    """x (N, C), classes (N,), weight (C,) -> losses (N,)."""
    target_weight = x.new_ones(()) if weight is None else weight.to(x.dtype)[classes]  # w_t
    index = classes.unsqueeze(1)
    others = torch.ones_like(x).scatter(1, index, 0.0)  # [c != t]
    # Half of each z, and the share of each in the loss: z, its square and the sum may be infinite if the loss is not.
    half = margin / 2 - x.gather(1, index) / 2 + x / 2  # z_c = margin - x_t + x_c                          (1)
    lacking = others * torch.where(half > 0, half, 0.0)  # unlike clamp_min, this has slope 0 at z = 0 for autograd
    share = (2.0**p * target_weight / x.shape[1]).unsqueeze(-1)
    # L = w_t / C sum_(c != t) max(z_c, 0)^p                                                                (2)
    return (lacking * (share * lacking ** (p - 1))).sum(1)


def plain_multi_margin_backward(
    dlosses: Tensor, x: Tensor, classes: Tensor, p: int, margin: float, weight: Tensor | None
) -> Tensor:
    """dlosses (N,) or one for all (), x (N, C), classes (N,), weight (C,) -> dx (N, C)."""
    target_weight = x.new_ones(classes.shape) if weight is None else weight.to(x.dtype)[classes]
    index = classes.unsqueeze(1)
    half = margin / 2 - x.gather(1, index) / 2 + x / 2
    slope = p * 2 ** (p - 1) * (dlosses * target_weight / x.shape[1]).unsqueeze(1)
    # dx_c = dL w_t / C p max(z_c, 0)^(p - 1) [z_c > 0] for c != t                                          (3)
    dx = torch.where(half > 0, slope * half ** (p - 1), 0.0)
    dx = dx.scatter(1, index, 0.0)
    return dx.scatter(1, index, -dx.sum(1, keepdim=True))  # dx_t = -sum_(c != t) dx_c                      (4)


# All steps are taken in the memory of half of what is lacking.
@fast_form(plain_multi_margin)
@compilable
def multi_margin(x: Tensor, classes: Tensor, p: int, margin: float, weight: Tensor | None) -> Tensor:
    """x (N, C), classes (N,), weight (C,) -> losses (N,)."""
    half = _half_of_lacking(x, classes, margin)
    shares = (_target_weight(x, classes, weight) * 2.0**p).unsqueeze(1)
    # L = w_t / C sum_(c != t) max(z_c, 0)^p                                                                (2)
    terms = half * shares if p == 1 else half * (half * shares)
    return terms.sum(1)


@fast_form(plain_multi_margin_backward)
@compilable
def multi_margin_backward(
    dlosses: Tensor, x: Tensor, classes: Tensor, p: int, margin: float, weight: Tensor | None
) -> Tensor:
    """dlosses (N,) or one for all (), x (N, C), classes (N,), weight (C,) -> dx (N, C)."""
    half = _half_of_lacking(x, classes, margin)
    slope = half.sign_() if p == 1 else half
    # dx_c = dL w_t / C p max(z_c, 0)^(p - 1) [z_c > 0] for c != t                                          (3)
    dx = slope.mul_((dlosses * _target_weight(x, classes, weight)).mul_(1 if p == 1 else 4).unsqueeze(1))
    # dx_t = -sum_(c != t) dx_c                                                                             (4)
    return dx.scatter_(1, classes.unsqueeze(1), -dx.sum(1, keepdim=True))


def _half_of_lacking(x: Tensor, classes: Tensor, margin: float) -> Tensor:
    """Half of that by which each other class is too near: max(z_c, 0) / 2, and 0 for the true class."""
    index = classes.unsqueeze(1)
    # z_c = margin - x_t + x_c                                                                              (1)
    half = torch.add(margin / 2 - x.gather(1, index) / 2, x, alpha=0.5)
    # Autograd has the slope 0 at z = 0 here, as PyTorch has; clamp_min would have 1.
    return torch.where(half > 0, half, 0.0).scatter_(1, index, 0.0)


def _target_weight(x: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
    """w_t / C, (N,)."""
    equal = torch.full((), 1 / x.shape[1], dtype=x.dtype, device=x.device).expand(classes.shape)
    return equal if weight is None else equal * weight.to(x.dtype).index_select(0, classes)


class MultiMarginLoss(Module):
    """sum over the other classes of max(0, margin - input[target] + input)^p / classes, the mean over the batch.

    Weston and Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", 1999, with p = 1 and without the
    division. Twin of torch.nn.MultiMarginLoss, the deprecated `size_average` and `reduce` left out. Keeps the input,
    the target and the weight.

    Args:
        p: 1 or 2.
        margin: by how much the true class is to lead.
        weight: a factor for each class, (C,); the mean is not weighted by them.
        reduction: "mean", "sum", or "none" for the loss of each example.

    Raises:
        ValueError: an unknown reduction, another `p`, or a `weight` that is no vector.
        ShapeError: from `forward`, where shapes or dtypes do not fit.
        IndexError: from `forward` on CPU, where a target is none of the classes.
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: str = "mean") -> None:
        self.reduction = check_reduction("MultiMarginLoss", reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: given p={p!r}, expected 1 or 2")
        if weight is not None and weight.dim() != 1:
            raise ValueError(f"MultiMarginLoss: given a weight of shape {tuple(weight.shape)}, expected (classes,)")
        self.p = p
        self.margin = margin
        self.weight = None if weight is None else weight.detach()

    def denominator(self, target: Tensor) -> Tensor | None:
        """What "mean" divides by: the number of targets, a tensor () of float64; None for other reductions."""
        return counted(target.numel(), target) if self.reduction == "mean" else None

    def forward(self, input: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """Scores (N, C) and classes (N,), or (C,) and () -> a scalar, with reduction "none" the shape of the target.

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        self._check_shapes(input, target)
        x, classes = self._rows(input, target)
        losses = multi_margin(widened(x), classes, self.p, self.margin, self.weight).view(target.shape)
        self.save(input, target, denominator, self.weight)
        count = None if denominator is None else denominator.to(losses.dtype)
        return reduce(losses, self.reduction, count).to(input.dtype)

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Tensor:
        """grad of the shape of the loss, None for 1 -> dinput.

        Raises:
            ValueError: `target_gradient`, for classes have no gradient.
        """
        input, target, denominator, weight = self.saved()
        if target_gradient:
            raise ValueError(f"{self!r}: target_gradient=True, but classes have no gradient")
        x, classes = self._rows(input, target)
        count = target.numel() if denominator is None else denominator.to(wide_dtype(x))
        dlosses = reduce_backward(grad, self.reduction, count, widened(x)).reshape(-1)
        dx = multi_margin_backward(widened(dlosses), widened(x), classes, self.p, self.margin, weight)
        return dx.to(input.dtype).view(input.shape)

    def _rows(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return input.reshape(target.numel(), input.shape[-1]), target.reshape(-1).to(torch.int64)

    def _check_shapes(self, x: Tensor, target: Tensor) -> None:
        check_floating(self, input=x)
        fits = (x.dim() == 2 and target.shape == x.shape[:1]) or (x.dim() == 1 and target.shape in ((), (1,)))
        if not fits or x.shape[-1] == 0 or target.is_floating_point():
            raise ShapeError(
                f"{self!r}: given input {tuple(x.shape)} and target {tuple(target.shape)} of {target.dtype}, expected "
                "scores (N, C) and a target (N,) of classes as int64, or (C,) and ()"
            )
        check_class_weight(self, self.weight, x, x.dim() - 1)
        check_classes(self, target, x.shape[-1])

    def extra_repr(self) -> str:
        weighted = "" if self.weight is None else f"weight of {self.weight.numel()} classes, "
        return f"p={self.p}, margin={self.margin}, {weighted}reduction={self.reduction!r}"
