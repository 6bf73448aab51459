"""Cross-entropy between the softmax of logits and given probabilities. Theory: docs/probability_targets.md."""

import torch
from torch import Tensor

from ds_core.speed.compiled import compilable
from ds_core.speed.exponential import exponential
from ds_core.speed.plain import fast_form
from ds_core.speed.precision import wide_dtype, widened

# N = batch, C = classes, ... = any further positions; inputs without a batch are (C,)


def plain_probability_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x, target (N, C, ...), weight (C,) -> losses (N, ...), exps (N, C, ...), sums (N, 1, ...)."""
    x, target = x.to(wide_dtype(x)), target.to(wide_dtype(target))
    dim, a = class_dim(x), label_smoothing
    class_weight = x.new_ones(()) if weight is None else per_class(weight, x)
    q = class_weight * ((1 - a) * target + a / x.shape[dim])  # q_c = w_c ((1 - a) t_c + a / C)              (1)
    z = x - x.detach().amax(dim, keepdim=True)  # so that no exponential overflows; the loss stays the same
    exps = torch.exp(z)
    sums = exps.sum(dim, keepdim=True)  # S
    losses = (q * (torch.log(sums) - z)).sum(dim)  # L = sum_c q_c (log(S) - z_c)                            (2)
    return losses, exps, sums


def plain_probability_cross_entropy_backward(
    dlosses: Tensor, exps: Tensor, sums: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float
) -> Tensor:
    """dlosses (), the same everywhere -> dx (N, C, ...)."""
    dim, a = class_dim(exps), label_smoothing
    class_weight = exps.new_ones(()) if weight is None else per_class(weight, exps)
    q = class_weight * ((1 - a) * target + a / exps.shape[dim])
    # dx_c = dL (exp(z_c) / S sum_k q_k - q_c)                                                                (3)
    return dlosses * (exps / sums * q.sum(dim, keepdim=True) - q)


def plain_probability_target_backward(
    dlosses: Tensor, x: Tensor, sums: Tensor, weight: Tensor | None, label_smoothing: float
) -> Tensor:
    """dlosses (), the same everywhere -> dtarget (N, C, ...)."""
    x = x.to(wide_dtype(x))
    class_weight = x.new_ones(()) if weight is None else per_class(weight, x)
    z = x - x.amax(class_dim(x), keepdim=True)
    # dt_c = dL (1 - a) w_c (log(S) - z_c)                                                                    (4)
    return dlosses * (1 - label_smoothing) * class_weight * (torch.log(sums) - z)


def class_dim(x: Tensor) -> int:
    """Which dimension of the logits is C."""
    return 0 if x.dim() == 1 else 1


def per_class(weight: Tensor, x: Tensor) -> Tensor:
    """weight (C,) in the dtype of `x` and shaped to be multiplied with it."""
    return weight.to(x.dtype).view(-1, *[1] * (x.dim() - 1 - class_dim(x)))


def shift(x: Tensor) -> Tensor:
    """x (N, C, ...) -> x - max_c x, in float32 at least: all exponentials are then within 0 ... 1.

    Neither softmax nor the loss changes with the shift, so it is a constant to autograd too.
    """
    wide = widened(x)
    return wide - wide.detach().amax(class_dim(x), keepdim=True)


# One buffer of the size of x: it holds z, then exp(z), then the gradient. Half precision is summed in float32.
@fast_form(plain_probability_cross_entropy)
@compilable
def probability_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x, target (N, C, ...), weight (C,) -> losses (N, ...), exps (N, C, ...), sums (N, 1, ...)."""
    dim = class_dim(x)
    shifted = shift(x)  # z
    q = _weighted(target, weight, label_smoothing).to(shifted.dtype)
    products = (q * shifted).sum(dim)
    exps = exponential(shifted)
    sums = exps.sum(dim, keepdim=True)  # S
    losses = q.sum(dim) * sums.log().squeeze(dim) - products  # L = log(S) sum_c q_c - sum_c q_c z_c         (2)
    return losses, exps, sums


@fast_form(plain_probability_cross_entropy_backward)
@compilable
def probability_cross_entropy_backward(
    dlosses: Tensor, exps: Tensor, sums: Tensor, target: Tensor, weight: Tensor | None, label_smoothing: float
) -> Tensor:
    """dlosses (), the same everywhere -> dx (N, C, ...), which takes the memory of `exps`."""
    q = _weighted(target, weight, label_smoothing).to(exps.dtype)
    total = q.sum(class_dim(exps), keepdim=True)
    # dx_c = dL (exp(z_c) / S sum_k q_k - q_c)                                                                (3)
    return exps.mul_(total * dlosses / sums).addcmul_(q, dlosses, value=-1)


@fast_form(plain_probability_target_backward)
def probability_target_backward(
    dlosses: Tensor, x: Tensor, sums: Tensor, weight: Tensor | None, label_smoothing: float
) -> Tensor:
    """dlosses (), the same everywhere -> dtarget (N, C, ...)."""
    dtarget = (sums.log() - shift(x)).mul_(dlosses * (1 - label_smoothing))
    # dt_c = dL (1 - a) w_c (log(S) - z_c)                                                                    (4)
    return dtarget if weight is None else dtarget.mul_(per_class(weight, dtarget))


def _weighted(target: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """q_c = w_c ((1 - a) t_c + a / C), a = label_smoothing."""  # (1)
    q = widened(target)
    if label_smoothing > 0:
        q = q * (1 - label_smoothing) + label_smoothing / target.shape[class_dim(target)]
    return q if weight is None else q * per_class(weight, q)
