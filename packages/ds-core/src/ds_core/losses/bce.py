"""Cross-entropy of probabilities of yes and no. Theory: docs/bce.md."""

import torch
from torch import Tensor

from ds_core.engine.trace import reuse
from ds_core.errors import ShapeError
from ds_core.losses.pointwise import PointwiseLoss
from ds_core.speed.compiled import compilable
from ds_core.speed.elementwise import Out
from ds_core.speed.plain import fast_form

# PyTorch's: a logarithm is at least -100, and the gradient is divided by at least 1e-12.
LOWEST = -100.0
EPSILON = 1e-12


def plain_bce(x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """x, target, weight -> losses, all of one shape."""
    # Autograd would divide 0 by 0 at x = 0 and 1. Near them it differentiates a line with the slope of (2) instead.
    steep = x * (1 - x) < EPSILON
    p = torch.where(steep, x.detach(), x)
    slope = (x.detach() - target.detach()) / EPSILON
    # L / w = -(t log(x) + (1 - t) log(1 - x)), either logarithm at least -100                              (1)
    log_yes, log_no = torch.clamp_min(torch.log(p), LOWEST), torch.clamp_min(torch.log1p(-p), LOWEST)
    losses = -(target * log_yes + (1 - target) * log_no) + torch.where(steep, slope * (x - x.detach()), 0.0)
    return losses if weight is None else weight * losses


def plain_bce_backward(
    dlosses: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """dlosses (of their shape or one for all), x, target, weight -> dx, dtarget."""
    dlosses = dlosses if weight is None else dlosses * weight
    # dx = dL w (x - t) / max(x (1 - x), epsilon)                                                           (2)
    dx = dlosses * (x - target) / torch.clamp_min(x * (1 - x), EPSILON)
    # dt = dL w (log(1 - x) - log(x)), either logarithm at least -100                                       (3)
    dtarget = dlosses * (torch.clamp_min(torch.log1p(-x), LOWEST) - torch.clamp_min(torch.log(x), LOWEST))
    return dx, dtarget


# All steps are taken in the memory of few tensors; backward needs no logarithm unless the target has a gradient.
@fast_form(plain_bce)
@compilable
def bce(x: Tensor, target: Tensor, weight: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """x, target, weight -> losses, all of one shape."""
    losses = _with_bounded_slope(x, target) if torch.is_grad_enabled() else _bce(x, target, out)
    return losses if weight is None else torch.mul(losses, weight, out=reuse(losses))


@fast_form(plain_bce_backward)
@compilable
def bce_backward(
    dlosses: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    needs: tuple[bool, bool] = (True, True),
    out: Out = (None, None),
) -> tuple[Tensor, Tensor | None]:
    """dlosses (of their shape or one for all), x, target, weight -> dx, dtarget."""
    if weight is not None:
        dlosses = dlosses * weight
    dx = _slope(x, target, out[0]).mul_(dlosses)  # dx = dL w (x - t) / max(x (1 - x), epsilon)             (2)
    if not needs[1]:
        return dx, None
    # dt = dL w (log(1 - x) - log(x)), either at least -100                                                 (3)
    return dx, torch.sub(_log_of_no(x), _log_of_yes(x), out=out[1]).mul_(dlosses)


def _bce(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    # L / w = (t - 1) log(1 - x) - t log(x), either logarithm at least -100                                 (1)
    no, yes = _log_of_no(x, out), _log_of_yes(x)
    losses = torch.mul(no, target - 1, out=reuse(no))
    return torch.addcmul(losses, yes, target, value=-1, out=reuse(losses))


def _with_bounded_slope(x: Tensor, target: Tensor) -> Tensor:
    """`_bce` for autograd, which would divide 0 by 0 at x = 0 and 1: there it meets a line of the slope (2)."""
    steep = x * (1 - x) < EPSILON
    line = (x - x.detach()) * _slope(x, target).detach()
    return _bce(torch.where(steep, x.detach(), x), target) + torch.where(steep, line, 0.0)


def _slope(x: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    error, variance = torch.sub(x, target, out=out), x * (1 - x)
    return torch.div(error, torch.clamp_min(variance, EPSILON, out=reuse(variance)), out=reuse(error))


def _log_of_yes(x: Tensor) -> Tensor:
    logs = torch.log(x)
    return torch.clamp_min(logs, LOWEST, out=reuse(logs))


def _log_of_no(x: Tensor, out: Tensor | None = None) -> Tensor:
    opposite = torch.neg(x, out=out)
    logs = torch.log1p(opposite, out=reuse(opposite))
    return torch.clamp_min(logs, LOWEST, out=reuse(logs))


class BCELoss(PointwiseLoss):
    """-(target log(input) + (1 - target) log(1 - input)), the mean over all elements.

    Twin of torch.nn.BCELoss, the deprecated `size_average` and `reduce` left out. Keeps the input, the target
    and the weight. `BCEWithLogitsLoss` of what came before the sigmoid is more exact.

    Args:
        weight: a factor for the loss of each element, of a shape that can be broadcast to the input's.
        reduction: "mean", "sum", or "none" for the loss of each element.

    Raises:
        ValueError: an unknown reduction.
        ShapeError: from `forward`, where the shapes are not equal, or the weight's does not fit.
        RuntimeError: from `forward` on CPU, where an input or a target is outside 0 ... 1.
    """

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else weight.detach()

    def losses(self, x: Tensor, target: Tensor, out: Tensor | None, weight: Tensor | None = None) -> Tensor:
        return bce(x, target, weight, out)

    def gradients(
        self,
        dlosses: Tensor,
        x: Tensor,
        target: Tensor,
        needs: tuple[bool, bool],
        out: Out,
        weight: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        return bce_backward(dlosses, x, target, weight, needs, out)

    def factors(self) -> dict[str, Tensor | None]:
        return {"weight": self.weight}

    def check(self, input: Tensor, target: Tensor) -> None:
        check_same_shape(self, input, target)
        # On an accelerator looking would wait for it.
        if input.numel() == 0 or input.device.type != "cpu" or torch.compiler.is_compiling():
            return
        for name, tensor in (("input", input), ("target", target)):
            low, high = float(tensor.detach().amin()), float(tensor.detach().amax())
            if not (low >= 0 and high <= 1):  # NaN is refused too
                raise RuntimeError(f"{self!r}: given {name}s from {low:.6g} to {high:.6g}, expected 0 ... 1")

    def extra_repr(self) -> str:
        weighted = "" if self.weight is None else f"weight of shape {tuple(self.weight.shape)}, "
        return weighted + super().extra_repr()


def check_same_shape(loss: object, input: Tensor, target: Tensor) -> None:
    """Raise `ShapeError` where the shapes differ: a probability of yes is not broadcast to many targets."""
    if input.shape != target.shape:
        raise ShapeError(
            f"{loss!r}: given input {tuple(input.shape)} and target {tuple(target.shape)}, expected one shape"
        )
