"""Cross-entropy of yes and no from logits, stable whatever their size. Theory: docs/bce_with_logits.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.losses.bce import check_same_shape
from ds_core.losses.pointwise import PointwiseLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.exponential import LOG2_E
from ds_core.speed.plain import fast_form


def plain_bce_with_logits(
    x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None
) -> Tensor:
    """x, target, weight, pos_weight -> losses, all of one shape."""
    a, b = 1 - target, target if pos_weight is None else pos_weight * target
    zero = torch.zeros_like(x)
    # log(1 + exp(x)) overflows. The larger of its terms comes out, and what is left has a power that cannot:
    # log(1 + exp(-x)) = max(-x, 0) + log(1 + exp(-|x|)), log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))  (2)
    rest = torch.log1p(torch.exp(-torch.abs(x)))
    # L = w (a max(x, 0) - b min(x, 0) + (a + b) log(1 + exp(-|x|)))                                        (3)
    losses = a * torch.maximum(x, zero) - b * torch.minimum(x, zero) + (a + b) * rest
    return losses if weight is None else weight * losses


def plain_bce_with_logits_backward(
    dlosses: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """dlosses (of their shape or one for all), x, target, weight, pos_weight -> dx, dtarget."""
    dlosses = dlosses if weight is None else dlosses * weight
    p = torch.ones_like(x) if pos_weight is None else pos_weight
    # dx = dL w (a sigmoid(x) - b sigmoid(-x))                                                              (4)
    dx = dlosses * ((1 - target) / (1 + torch.exp(-x)) - p * target / (1 + torch.exp(x)))
    rest = torch.log1p(torch.exp(-torch.abs(x)))
    # dt = dL w (p log(1 + exp(-x)) - log(1 + exp(x))), both as in (2)                                      (5)
    dtarget = dlosses * (p * (torch.clamp_min(-x, 0) + rest) - (torch.clamp_min(x, 0) + rest))
    return dx, dtarget


# Each pass takes one power of 2, which is faster than exp, and all steps are taken in the memory of few tensors.
@fast_form(plain_bce_with_logits)
@compilable
def bce_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """x, target, weight, pos_weight -> losses, all of one shape."""
    no, yes = _sides(target, pos_weight)
    more = log_one_more(x, out)
    zero = torch.zeros((), dtype=x.dtype, device=x.device)
    # L = w (no max(x, 0) - yes min(x, 0) + (no + yes) log(1 + exp(-|x|)))                                  (3)
    losses = more if pos_weight is None else torch.mul(more, no + yes, out=reuse(more))  # else no + yes = 1
    # Autograd gives maximum and minimum the slope 1/2 at 0, as (4) asks for; clamp would have 1.
    losses = torch.addcmul(losses, no, torch.maximum(x, zero), out=reuse(losses))
    losses = torch.addcmul(losses, yes, torch.minimum(x, zero), value=-1, out=reuse(losses))
    return losses if weight is None else torch.mul(losses, weight, out=reuse(losses))


@fast_form(plain_bce_with_logits_backward)
@compilable
def bce_with_logits_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target, weight, pos_weight -> dx, dtarget."""
    if weight is not None:
        dlosses = dlosses * weight
    no, yes = _sides(target, pos_weight)
    small = torch.exp2(x.abs().mul_(-LOG2_E))  # e
    # dx = dL w (no sigmoid(x) - yes sigmoid(-x)); sigmoid(|x|) = 1 / (1 + e), sigmoid(-|x|) = e / (1 + e)  (4)
    above, below = torch.addcmul(no, yes, small, value=-1), no.mul_(small).sub_(yes)
    dx = torch.where(x >= 0, above, below, out=out[0]).div_(small.add_(1)).mul_(dlosses)
    if not needs[1]:
        return dx, None
    dtarget = torch.neg(x, out=out[1])
    if pos_weight is not None:
        dtarget = dtarget.addcmul_(pos_weight - 1, log_one_more(x).add_(torch.clamp_min(-x, 0)))
    return dx, dtarget.mul_(dlosses)  # dt = dL w (-x + (p - 1) log(1 + exp(-x)))                           (5)


def log_one_more(x: Tensor, out: Tensor | None = None) -> Tensor:
    """log(1 + exp(-|x|)): what log(1 + exp(x)) is more than max(x, 0), and log(1 + exp(-x)) more than max(-x, 0)."""
    size = torch.abs(x, out=out)
    powers = torch.mul(size, -LOG2_E, out=reuse(size))
    exps = torch.exp2(powers, out=reuse(powers))
    return torch.log1p(exps, out=reuse(exps))


def _sides(target: Tensor, pos_weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """How much the target weighs on the side of no, 1 - t, and of yes, p t."""
    return 1 - target, target if pos_weight is None else pos_weight * target


class BCEWithLogitsLoss(PointwiseLoss):
    """-(target log(s) + (1 - target) log(1 - s)) with s = sigmoid(input), the mean over all elements.

    Twin of torch.nn.BCEWithLogitsLoss, the deprecated `size_average` and `reduce` left out. Keeps the input, the
    target and both weights.

    Args:
        weight: a factor for the loss of each element, of a shape that can be broadcast to the input's.
        reduction: "mean", "sum", or "none" for the loss of each element.
        pos_weight: a factor for the part of yes alone: above 1 for recall, below 1 for precision; also broadcast.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes are not equal, or a weight's does not fit.
    """

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else weight.detach()
        self.pos_weight = None if pos_weight is None else pos_weight.detach()

    def losses(
        self,
        x: Tensor,
        target: Tensor,
        out: Tensor | None,
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
    ) -> Tensor:
        return bce_with_logits(x, target, weight, pos_weight, out)

    def gradients(
        self,
        dlosses: Tensor,
        x: Tensor,
        target: Tensor,
        needs: tuple[bool, bool],
        out: Out,
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        return bce_with_logits_backward(dlosses, x, target, weight, pos_weight, needs, out)

    def factors(self) -> dict[str, Tensor | None]:
        return {"weight": self.weight, "pos_weight": self.pos_weight}

    def check(self, input: Tensor, target: Tensor) -> None:
        check_same_shape(self, input, target)

    def extra_repr(self) -> str:
        weights = [f"{name} of shape {tuple(t.shape)}" for name, t in self.factors().items() if t is not None]
        return ", ".join([*weights, super().extra_repr()])
