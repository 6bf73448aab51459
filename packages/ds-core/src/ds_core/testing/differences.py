"""Gradients by central finite differences: the judge that knows nothing of derivatives."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ds_core.testing.calls import Call, align_outputs
from ds_core.testing.failure import CheckFailed, compare, relative_difference
from ds_core.testing.layer_under_test import LayerUnderTest

# Truncation grows as h^2 and rounding as 1/h: in float64 both are near 1e-10 here. If a third derivative is
# large, or a kink within reach, the smaller step decides.
_STEPS = (1e-5, 1e-6)
RTOL, ATOL = 1e-5, 1e-7


class Difference(NamedTuple):
    """How far a handwritten gradient is from finite differences; `failure` is None where that is rounding."""

    name: str
    relative: float
    failure: CheckFailed | None


def finite_differences(
    subject: LayerUnderTest,
    call: Call,
    gradients: tuple[Any, ...],
    handwritten: Mapping[str, Tensor | None],
    samples: int,
    generator: torch.Generator,
) -> Iterator[Difference]:
    """Hold each handwritten gradient against (s(x + h d) - s(x - h d)) / 2h, where s = sum(dy y).

    d goes through all coordinates of a tensor of at most `samples` numbers and through
    `samples` random ones of a larger tensor, and last is a random direction of signs.
    """
    call = call.copy()
    for title, leaf in subject.leaves(call).items():
        given = handwritten.get(title)
        given = torch.zeros_like(leaf) if given is None else given
        indices = torch.ones_like(leaf, dtype=torch.bool).nonzero()
        chosen = indices[torch.randperm(len(indices), generator=generator)[:samples].to(indices.device)].tolist()
        signs = torch.randint(0, 2, leaf.shape, generator=generator).to(leaf) * 2 - 1
        found = None
        for step in _STEPS:
            if found is None or found.failure is not None:
                slopes = partial(_slope, subject, call, gradients, leaf.detach(), step)
                found = _compared(subject.name, title, given, slopes, chosen, signs)
        assert found is not None
        yield found


def _compared(
    subject: str,
    title: str,
    given: Tensor,
    slope: Callable[[Tensor], Tensor],
    chosen: list[list[int]],
    signs: Tensor,
) -> Difference:
    sides = ("handwritten", "finite difference")
    found = given.clone()
    for index in chosen:
        direction = torch.zeros_like(given)
        direction[tuple(index)] = 1
        found[tuple(index)] = slope(direction)
    along, expected = (given * signs).sum(), slope(signs)
    # A sum over the whole tensor carries the rounding of all its terms: allow for its length, not for its value.
    length = float(given.norm())
    relative = max(
        relative_difference(given, found, RTOL, ATOL), float((along - expected).abs()) / (length + ATOL / RTOL)
    )
    try:
        compare(subject, "finite differences", title, given, found, RTOL, ATOL, sides)
        direction_title = f"{title} along a random direction"
        compare(subject, "finite differences", direction_title, along, expected, 0, ATOL + RTOL * length, sides)
    except CheckFailed as failure:
        return Difference(title, relative, failure)
    return Difference(title, relative, None)


def _slope(
    subject: LayerUnderTest, call: Call, gradients: tuple[Any, ...], leaf: Tensor, step: float, direction: Tensor
) -> Tensor:
    before = leaf.clone()
    leaf.copy_(before + step * direction)
    ahead = subject.outputs(call)
    leaf.copy_(before - step * direction)
    behind = subject.outputs(call)
    leaf.copy_(before)
    total = torch.zeros((), dtype=torch.float64, device=leaf.device)
    for (_, y, dy), (_, other, _) in zip(
        align_outputs(ahead, gradients), align_outputs(behind, gradients), strict=True
    ):
        if dy is not None:
            change = torch.where(y == other, 0.0, y - other)  # the same infinity twice is no change
            total += (change * dy).sum().to(total.device)
    return total / (2 * step)
