"""Cross-entropy between the softmax of logits and a class, or probabilities. Theory: docs/cross_entropy.md."""

from typing import Any

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.engine.trace import recording
from ds_core.errors import ShapeError, check_floating
from ds_core.losses.class_targets import check_class_weight, check_classes
from ds_core.losses.denominator import counted
from ds_core.losses.nll import denominator_of_classes, target_weights
from ds_core.losses.probability_targets import (
    class_dim,
    per_class,
    probability_cross_entropy,
    probability_cross_entropy_backward,
    probability_target_backward,
    shift,
)
from ds_core.losses.reduction import check_reduction, reduce, reduce_backward
from ds_core.speed.exponential import exponential
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype

# N = batch, C = classes, ... = any further positions; inputs without a batch are (C,)


def plain_cross_entropy(
    x: Tensor, classes: Tensor, ignored: Tensor, weight: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, ...), weight (C,), others (N, ...) -> losses, target_weight (N, ...), exps as x, sums (N, 1, ...)."""
    x, dim, a = x.to(wide_dtype(x)), class_dim(x), label_smoothing
    class_weight = x.new_ones(x.shape[dim]) if weight is None else weight.to(x.dtype)
    target_weight = torch.where(ignored, 0.0, class_weight[classes])  # w_t
    z = x - x.detach().amax(dim, keepdim=True)  # so that no exponential overflows; the loss stays the same
    exps = torch.exp(z)
    sums = exps.sum(dim, keepdim=True)  # S = sum_c exp(z_c), and the probabilities are exp(z_c) / S        (1)
    surprise = torch.log(sums) - z  # log(S) - z_c
    losses = target_weight * surprise.gather(dim, classes.unsqueeze(dim)).squeeze(dim)  # w_t (log(S) - z_t)  (2)
    if a > 0:
        # L = (1 - a) w_t (log(S) - z_t) + a / C sum_c w_c (log(S) - z_c)                                     (4)
        losses = (1 - a) * losses + a / x.shape[dim] * (per_class(class_weight, x) * surprise).sum(dim)
    return torch.where(ignored, 0.0, losses), target_weight, exps, sums


def plain_cross_entropy_backward(
    dlosses: Tensor,
    exps: Tensor,
    sums: Tensor,
    target_weight: Tensor,
    classes: Tensor,
    ignored: Tensor,
    weight: Tensor | None,
    label_smoothing: float,
) -> Tensor:
    """dlosses (N, ...) or one for all () -> dx (N, C, ...)."""
    dim, a = class_dim(exps), label_smoothing
    p = exps / sums
    is_target = torch.zeros_like(exps).scatter(dim, classes.unsqueeze(dim), 1.0)  # [c = t]
    # If all targets are ignored, dlosses is 1 / 0, and infinity times a weight of 0 is not 0.
    dlosses = torch.where(ignored, 0.0, dlosses).unsqueeze(dim)
    dx = dlosses * target_weight.unsqueeze(dim) * (p - is_target)  # dx_c = dL w_t (exp(z_c) / S - [c = t])   (3)
    if a == 0:
        return dx
    class_weight = per_class(exps.new_ones(exps.shape[dim]) if weight is None else weight, exps)
    # dx_c = dL ((1 - a) w_t (exp(z_c) / S - [c = t]) + a / C (exp(z_c) / S sum_k w_k - w_c))                 (5)
    return (1 - a) * dx + dlosses * a / exps.shape[dim] * (p * class_weight.sum() - class_weight)


# One buffer of the size of x holds z, then exp(z), then the gradient; all else is one number for each position.
# Not @compilable: compiled, the scatter below copies the whole buffer, and eager is faster for many classes.
@fast_form(plain_cross_entropy)
def cross_entropy(
    x: Tensor, classes: Tensor, ignored: Tensor, weight: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (N, C, ...), weight (C,), others (N, ...) -> losses, target_weight (N, ...), exps as x, sums (N, 1, ...).

    `classes` holds 0 where `ignored`. `target_weight` is the weight of each target, 0 where ignored; the mean divides
    by the sum of these.
    """
    dim = class_dim(x)
    shifted = shift(x)  # z
    picked = shifted.gather(dim, classes.unsqueeze(dim)).squeeze(dim)
    smooth = None if label_smoothing == 0 else _sum_of_classes(shifted, weight)
    exps = exponential(shifted)
    sums = exps.sum(dim, keepdim=True)  # S
    logs = sums.log().squeeze(dim)
    target_weight = target_weights(classes, ignored, weight, picked.dtype)
    losses = target_weight * (logs - picked)  # L = w_t (log(S) - z_t)                                       (2)
    if smooth is not None:
        # L = (1 - a) w_t (log(S) - z_t) + a / C sum_c w_c (log(S) - z_c)                                     (4)
        smoothing_weight = label_smoothing / shifted.shape[dim]
        smooth_losses = logs * _total_weight(shifted, weight) - smooth
        losses = losses * (1 - label_smoothing) + smooth_losses * smoothing_weight
    return losses.masked_fill(ignored, 0), target_weight, exps, sums


@fast_form(plain_cross_entropy_backward)
def cross_entropy_backward(
    dlosses: Tensor,
    exps: Tensor,
    sums: Tensor,
    target_weight: Tensor,
    classes: Tensor,
    ignored: Tensor,
    weight: Tensor | None,
    label_smoothing: float,
) -> Tensor:
    """dlosses (N, ...) or one for all () -> dx (N, C, ...), which takes the memory of `exps`."""
    dim = class_dim(exps)
    index = classes.unsqueeze(dim)
    # If all targets are ignored, dlosses is 1 / 0, and infinity times a weight of 0 is not 0: masked once more.
    scaled_weight = (dlosses * target_weight * (1 - label_smoothing)).masked_fill(ignored, 0).unsqueeze(dim)
    if label_smoothing == 0:
        # dx_c = dL w_t (exp(z_c) / S - [c = t])                                                              (3)
        return exps.mul_(scaled_weight / sums).scatter_add_(dim, index, -scaled_weight)
    smoothing_weight = (dlosses * (label_smoothing / exps.shape[dim])).expand(ignored.shape)
    smoothing_weight = smoothing_weight.masked_fill(ignored, 0).unsqueeze(dim)
    # dx_c = dL ((1 - a) w_t (exp(z_c) / S - [c = t]) + a / C (exp(z_c) / S sum_k w_k - w_c))                 (5)
    of_probabilities = (scaled_weight + smoothing_weight * _total_weight(exps, weight)) / sums
    dx = exps.mul_(of_probabilities).scatter_add_(dim, index, -scaled_weight)
    if weight is None:
        return dx.sub_(smoothing_weight)
    return dx.addcmul_(smoothing_weight, per_class(weight, dx), value=-1)


def _sum_of_classes(x: Tensor, weight: Tensor | None) -> Tensor:
    """sum_c w_c x_c."""
    return (x if weight is None else x * per_class(weight, x)).sum(class_dim(x))


def _total_weight(x: Tensor, weight: Tensor | None) -> Tensor | int:
    """sum_c w_c."""
    return x.shape[class_dim(x)] if weight is None else weight.to(x.dtype).sum()


class CrossEntropyLoss(Module):
    """-log softmax(input)[target], the mean over all positions.

    Twin of torch.nn.CrossEntropyLoss, the deprecated `size_average` and `reduce` left out. Under `record()`
    the buffer of the exponentials becomes the gradient before forward returns; `backward()` hands it out.

    Args:
        weight: a factor for each class, (C,). With reduction "mean" and targets that are classes, the mean
            is weighted by them.
        ignore_index: positions with this target count for nothing.
        reduction: "mean", "sum", or "none" for the loss at each position.
        label_smoothing: a, 0 ... 1: the share of the uniform distribution in each target
            (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015, section 7).

    Raises:
        ValueError: an unknown reduction, or `label_smoothing` outside 0 ... 1.
        ShapeError: from `forward`, where shapes or dtypes do not fit.
        IndexError: from `forward` on CPU, where a target is neither one of the classes nor `ignore_index`.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.reduction = check_reduction("CrossEntropyLoss", reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: given label_smoothing={label_smoothing}, expected 0 ... 1")
        self.weight = None if weight is None else weight.detach()
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def denominator(self, target: Tensor) -> Tensor | None:
        """What "mean" divides by: the weights of the targets that are not ignored, or the positions of probabilities,
        a tensor () of float64; None for other reductions.
        """
        if self.reduction != "mean":
            return None
        if target.is_floating_point() and target.dim() > 0:
            return counted(target.numel() // max(target.shape[class_dim(target)], 1), target)
        return denominator_of_classes(self, target, self.weight, self.ignore_index)

    def forward(self, input: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """Logits (N, C, ...) or (C,), and as target the class at each position, (N, ...), as integers,
        or probabilities in the shape of the logits -> a scalar, with reduction "none" (N, ...).

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        if input.shape == target.shape:
            return self._of_probabilities(input, target, denominator)
        self._check_shapes(input, target)
        ignored = target == self.ignore_index
        options = (target.to(torch.int64).masked_fill(ignored, 0), ignored, self.weight, self.label_smoothing)
        losses, target_weight, exps, sums = cross_entropy(input, *options)
        count: Tensor | int = 1
        if self.reduction == "mean":
            count = target_weight.sum() if denominator is None else denominator.to(losses.dtype)
        loss = reduce(losses, self.reduction, count)  # sum L / sum w_t                                     (6)
        if recording():
            dlosses = reduce_backward(None, self.reduction, count, losses)
            self.save(cross_entropy_backward(dlosses, exps, sums, target_weight, *options).to(input.dtype), None)
        return loss.to(input.dtype)

    def _of_probabilities(self, x: Tensor, target: Tensor, denominator: Tensor | None) -> Tensor:
        if not target.is_floating_point():
            raise ShapeError(f"{self!r}: a target in the shape of the input holds probabilities, given {target.dtype}")
        if self.ignore_index >= 0:
            raise ShapeError(f"{self!r}: ignore_index={self.ignore_index}, but probabilities are not ignored")
        check_class_weight(self, self.weight, x, class_dim(x))
        options = (target, self.weight, self.label_smoothing)
        losses, exps, sums = probability_cross_entropy(x, *options)
        count = losses.numel() if denominator is None else denominator.to(losses.dtype)
        loss = reduce(losses, self.reduction, count)
        if recording():
            dlosses = reduce_backward(None, self.reduction, count, losses)
            dx = probability_cross_entropy_backward(dlosses, exps, sums, *options).to(x.dtype)
            self.save(dx, (dlosses, x, sums, self.weight, target.dtype))
        return loss.to(x.dtype)

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Any:
        """grad of the shape of the loss, None for 1 -> dinput; with `target_gradient` (dinput, dtarget).

        Raises:
            ValueError: `target_gradient` where the targets are classes, which have no gradient.
        """
        dx, probabilities = self.saved()
        if grad is not None and grad.dim() > 0:
            grad = grad.unsqueeze(class_dim(dx))
        dinput = dx if grad is None else dx * grad
        if not target_gradient:
            return dinput
        if probabilities is None:
            raise ValueError(f"{self!r}: target_gradient=True, but classes have no gradient")
        dlosses, x, sums, weight, dtype = probabilities
        dtarget = probability_target_backward(dlosses, x, sums, weight, self.label_smoothing)
        return dinput, (dtarget if grad is None else dtarget * grad).to(dtype)

    def _check_shapes(self, x: Tensor, target: Tensor) -> None:
        check_floating(self, input=x)
        positions = (*x.shape[: class_dim(x)], *x.shape[class_dim(x) + 1 :])
        if x.dim() == 0 or target.shape != positions or target.is_floating_point():
            raise ShapeError(
                f"{self!r}: given input {tuple(x.shape)} and target {tuple(target.shape)} of {target.dtype}, expected "
                f"a target {positions} of classes as int64, or {tuple(x.shape)} of probabilities"
            )
        check_class_weight(self, self.weight, x, class_dim(x))
        check_classes(self, target, x.shape[class_dim(x)], self.ignore_index)

    def extra_repr(self) -> str:
        weighted = "" if self.weight is None else f"weight of {self.weight.numel()} classes, "
        return (
            f"{weighted}ignore_index={self.ignore_index}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}"
        )
