"""What a failed check says: which check, which tensor, the largest difference, where, and what it looks like."""

from typing import Any

import torch
from torch import Tensor

from ds_core.engine.trace import describe

_HINTS = {
    "trace": "forward calls self.save(...) once, backward calls self.saved() once, first, even where dy is None",
    "repeatable": "random draws come from torch's default generator, through ds_core.engine.recompute.drawn",
    "reuse": "each call keeps its own tensors: self.save(...) in forward, self.saved() in backward, nothing on self",
    "non-contiguous": "the same numbers in another memory layout: reshape instead of view, take no strides for granted",
    "batch of one": "no batch dimension? batch_dim=None. A batch of one is not allowed? skip=['batch of one']",
    "empty batch": "no batch dimension? batch_dim=None. An empty batch is not allowed? skip=['empty batch']",
    "None gradients": "None means zeros: take saved(), then return None, or go on with zeros beside other gradients",
    "input_gradient": "a layer with parameters has backward(dy, *, input_gradient=True)",
    "recompute": "draw through drawn(lambda: ...); leave running statistics alone while replaying()",
}


class CheckFailed(AssertionError):  # noqa: N818 (read in a traceback: "CheckFailed: Linear(...)")
    """A layer, loss or optimizer does not do what it must.

    Attributes:
        check: name of the check, such as `"autograd"`.
        reason: the message without the subject's name.
        tensor: what differs, such as `"gradient of weight"`; None where the check compares no tensors.
        difference: largest absolute difference, or None.
        where: index of the largest difference, or None.
    """

    def __init__(
        self,
        subject: str,
        check: str,
        reason: str,
        tensor: str | None = None,
        difference: float | None = None,
        where: tuple[int, ...] | None = None,
    ) -> None:
        hint = f"\n  hint: {_HINTS[check]}" if check in _HINTS else ""
        super().__init__(f"{subject}\n  check {check!r} failed: {reason}{hint}")
        self.check = check
        self.reason = reason
        self.tensor = tensor
        self.difference = difference
        self.where = where


def name_of(layer: Any) -> str:
    """A layer, module or function in one line."""
    return describe(layer) if hasattr(layer, "extra_repr") else getattr(layer, "__name__", type(layer).__name__)


def largest_difference(given: Tensor, expected: Tensor) -> tuple[float, tuple[int, ...]]:
    """The largest |given - expected| and its index. The same NaN or infinity in both is no difference."""
    if given.numel() == 0:
        return 0.0, ()
    given, expected = (tensor.detach().to(torch.float64) for tensor in (given, expected))
    same = (given == expected) | (given.isnan() & expected.isnan())
    difference = torch.where(same, 0.0, (given - expected).abs()).nan_to_num(nan=float("inf"))
    position = int(difference.argmax())
    where = tuple(int(index) for index in torch.unravel_index(torch.tensor(position), difference.shape))
    return float(difference.reshape(-1)[position]), where


def relative_difference(given: Tensor, expected: Tensor, rtol: float, atol: float) -> float:
    """The largest difference over (the largest |expected| + atol / rtol): at most rtol where `compare` agrees."""
    return largest_difference(given, expected)[0] / (_scale(expected) + atol / rtol)


def _scale(expected: Tensor) -> float:
    finite = expected[expected.isfinite()].to(torch.float64)
    return float(finite.abs().max()) if finite.numel() > 0 else 0.0


def compare(
    subject: str,
    check: str,
    tensor: str,
    given: Tensor | None,
    expected: Tensor | None,
    rtol: float,
    atol: float,
    sides: tuple[str, str] = ("handwritten", "autograd"),
) -> None:
    """Raise `CheckFailed` unless |given - expected| <= atol + rtol max|expected| everywhere; None means zeros."""
    if given is None:
        if expected is None:
            return
        given = torch.zeros_like(expected)
    elif expected is None:
        expected = torch.zeros_like(given)
    given, expected = given.detach(), expected.detach()
    if given.shape != expected.shape:
        raise CheckFailed(
            subject,
            check,
            f"{tensor} has shape {tuple(given.shape)} ({sides[0]}), expected {tuple(expected.shape)} ({sides[1]})",
            tensor,
        )
    difference, where = largest_difference(given, expected)
    allowed = atol + rtol * _scale(expected)
    if difference <= allowed:
        return
    raise CheckFailed(
        subject,
        check,
        f"{tensor}, shape {tuple(given.shape)}: largest difference {difference:.3g} (allowed {allowed:.1g}) "
        f"at {list(where)}: {sides[0]} {float(given[where]):.6g}, {sides[1]} {float(expected[where]):.6g}"
        + _resemblance(given, expected, sides),
        tensor,
        difference,
        where,
    )


def _resemblance(given: Tensor, expected: Tensor, sides: tuple[str, str]) -> str:
    """What the wrong tensor looks like, where that is plain: the commonest slips of a hand derivation."""
    first, second = given.to(torch.float64), expected.to(torch.float64)
    if not bool(first.isfinite().all()):
        return f"\n  {sides[0]} is not finite in {int((~first.isfinite()).sum())} of {first.numel()} entries"
    if not bool((first != 0).any()):
        return f"\n  {sides[0]} is zero everywhere: was the gradient returned, or accumulated, at all?"
    if _near(first, -second):
        return f"\n  {sides[0]} = -{sides[1]}: a wrong sign"
    if first.dim() == 2 and first.shape[0] == first.shape[1] and _near(first.t(), second):
        return f"\n  {sides[0]} is the transpose of {sides[1]}"
    factor = float((first * second).sum() / (second * second).sum().clamp_min(1e-300))
    if _near(first, factor * second):
        return f"\n  {sides[0]} = {factor:.6g} x {sides[1]}: a wrong factor"
    wrong = int(((first - second).abs() > 1e-6 * second.abs().max()).sum())
    return f"\n  {wrong} of {first.numel()} entries differ"


def _near(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= 1e-6 * second.abs().max())
