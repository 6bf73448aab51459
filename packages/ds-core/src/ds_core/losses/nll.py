"""The negative of the log-probability that was given to the true class. Theory: docs/nll.md."""

import torch
from torch import Tensor

from ds_core.engine.module import Module
from ds_core.errors import ShapeError, check_floating
from ds_core.losses.class_targets import check_class_weight, check_classes
from ds_core.losses.probability_targets import class_dim
from ds_core.losses.reduction import check_reduction, reduce, reduce_backward
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import widened

# N = batch, C = classes, ... = any further positions; inputs without a batch are (C,)


def plain_nll(x: Tensor, classes: Tensor, ignored: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """x (N, C, ...), classes, ignored (N, ...), weight (C,) -> losses, target_weight (N, ...)."""
    dim = class_dim(x)
    class_weight = x.new_ones(x.shape[dim]) if weight is None else weight.to(x.dtype)
    target_weight = torch.where(ignored, 0.0, class_weight[classes])  # w_t
    x_t = x.gather(dim, classes.unsqueeze(dim)).squeeze(dim)
    losses = torch.where(ignored, 0.0, -target_weight * x_t)  # L = -w_t x_t                                (1)
    return losses, target_weight


def plain_nll_backward(dlosses: Tensor, target_weight: Tensor, classes: Tensor, ignored: Tensor, x: Tensor) -> Tensor:
    """dlosses (N, ...) or one for all () -> dx of the shape of x."""
    dim = class_dim(x)
    # If all targets are ignored, dlosses is 1 / 0, and infinity times a weight of 0 is not 0.
    dx_t = torch.where(ignored, 0.0, -dlosses * target_weight)
    # dx_c = -dL w_t [c = t]                                                                                (2)
    return torch.zeros_like(x).scatter(dim, classes.unsqueeze(dim), dx_t.unsqueeze(dim))


def target_weights(classes: Tensor, ignored: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
    """classes, ignored (N, ...), weight (C,) -> the weight of each target, 0 where ignored, (N, ...)."""
    target_weight = ignored.logical_not().to(dtype)
    if weight is None:
        return target_weight
    return target_weight * weight.to(dtype).index_select(0, classes.reshape(classes.numel())).view(classes.shape)


def denominator_of_classes(loss: object, target: Tensor, weight: Tensor | None, ignore_index: int) -> Tensor:
    """The sum of the weights of all targets that are not ignored, () in float64."""
    ignored = target == ignore_index
    if weight is None:
        return ignored.logical_not().sum(dtype=torch.float64)
    check_classes(loss, target, weight.numel(), ignore_index)
    classes = target.to(torch.int64).masked_fill(ignored, 0)
    return target_weights(classes, ignored, weight, torch.float64).sum()


# Half precision is calculated in float32, and weights are looked up only if there are any.
@fast_form(plain_nll)
def nll(x: Tensor, classes: Tensor, ignored: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """x (N, C, ...), classes, ignored (N, ...), weight (C,) -> losses, target_weight (N, ...).

    `classes` holds 0 where `ignored`. `target_weight` is the weight of each target, 0 where ignored; the mean divides
    by the sum of these.
    """
    dim = class_dim(x)
    picked = widened(x.gather(dim, classes.unsqueeze(dim)).squeeze(dim))
    target_weight = target_weights(classes, ignored, weight, picked.dtype)
    losses = -target_weight * picked  # L = -w_t x_t                                                        (1)
    return losses.masked_fill(ignored, 0), target_weight


@fast_form(plain_nll_backward)
def nll_backward(dlosses: Tensor, target_weight: Tensor, classes: Tensor, ignored: Tensor, x: Tensor) -> Tensor:
    """dlosses (N, ...) or one for all () -> dx like x, of which only shape, dtype and device are looked at."""
    dim = class_dim(x)
    # If all targets are ignored, dlosses is 1 / 0, and infinity times a weight of 0 is not 0: masked once more.
    dpicked = (-dlosses * target_weight).masked_fill(ignored, 0).to(x.dtype)
    # dx_c = -dL w_t [c = t]                                                                                (2)
    return torch.zeros_like(x).scatter_(dim, classes.unsqueeze(dim), dpicked.unsqueeze(dim))


class NLLLoss(Module):
    """-input[target], where the input holds log-probabilities; the mean over all positions.

    Twin of torch.nn.NLLLoss, the deprecated `size_average` and `reduce` left out. Keeps the input, and two numbers
    and a flag for each position.

    Args:
        weight: a factor for each class, (C,); the mean is weighted by them.
        ignore_index: positions with this target count for nothing.
        reduction: "mean", "sum", or "none" for the loss at each position.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where shapes or dtypes do not fit.
        IndexError: from `forward` on CPU, where a target is neither one of the classes nor `ignore_index`.
    """

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.reduction = check_reduction("NLLLoss", reduction)
        self.weight = None if weight is None else weight.detach()
        self.ignore_index = ignore_index

    def denominator(self, target: Tensor) -> Tensor | None:
        """What "mean" divides by: the weights of the targets that are not ignored, a tensor () of float64; None for
        other reductions.
        """
        if self.reduction != "mean":
            return None
        return denominator_of_classes(self, target, self.weight, self.ignore_index)

    def forward(self, input: Tensor, target: Tensor, *, denominator: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, C, ...) or (C,), and the class at each position, (N, ...), as integers -> a scalar,
        with reduction "none" (N, ...).

        `denominator`, where this is a part of a larger batch, is that of the whole.
        """
        self._check_shapes(input, target)
        ignored = target == self.ignore_index
        classes = target.to(torch.int64).masked_fill(ignored, 0)
        losses, target_weight = nll(input, classes, ignored, self.weight)
        self.save(input, classes, ignored, target_weight, denominator)
        return reduce(losses, self.reduction, self._count(target_weight, denominator)).to(input.dtype)

    def backward(self, grad: Tensor | None = None, *, target_gradient: bool = False) -> Tensor:
        """grad of the shape of the loss, None for 1 -> dinput.

        Raises:
            ValueError: `target_gradient`, for classes have no gradient.
        """
        x, classes, ignored, target_weight, denominator = self.saved()
        if target_gradient:
            raise ValueError(f"{self!r}: target_gradient=True, but classes have no gradient")
        count = self._count(target_weight, denominator)
        dlosses = reduce_backward(grad, self.reduction, count, target_weight)  # sum L / sum w_t            (3)
        return nll_backward(dlosses, target_weight, classes, ignored, x)

    def _count(self, target_weight: Tensor, denominator: Tensor | None) -> Tensor | int:
        if self.reduction != "mean":
            return 1
        return target_weight.sum() if denominator is None else denominator.to(target_weight.dtype)

    def _check_shapes(self, x: Tensor, target: Tensor) -> None:
        check_floating(self, input=x)
        positions = (*x.shape[: class_dim(x)], *x.shape[class_dim(x) + 1 :])
        if x.dim() == 0 or target.shape != positions or target.is_floating_point():
            raise ShapeError(
                f"{self!r}: given input {tuple(x.shape)} and target {tuple(target.shape)} of {target.dtype}, expected "
                f"log-probabilities (N, C, ...) or (C,) and a target {positions} of classes as int64"
            )
        check_class_weight(self, self.weight, x, class_dim(x))
        check_classes(self, target, x.shape[class_dim(x)], self.ignore_index)

    def extra_repr(self) -> str:
        weighted = "" if self.weight is None else f"weight of {self.weight.numel()} classes, "
        return f"{weighted}ignore_index={self.ignore_index}, reduction={self.reduction!r}"
