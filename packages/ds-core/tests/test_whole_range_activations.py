"""Every activation over the whole range of every dtype: both engines, as they run and as their pages write them."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from activation_checks import TABLE, Case, by_autograd, handwritten
from ds_core import plain
from torch import Tensor
from whole_range import DTYPES, assert_right, numbers

ROWS = ("glu", "softmax", "log_softmax", "softmin")  # not element by element
FAR = 1e30  # from here on, each of the others is a straight line


def right(case: Case, twin: Any, x: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
    """y and dx by the twin, in float64; it overflows itself where float64 ends, so there along the line."""
    near = x if case.name in ROWS else x.clamp(-FAR, FAR)
    y, dx = by_autograd(twin.double(), near, dy)
    slope = dx / dy if near.shape == dy.shape else torch.zeros_like(dx)
    return (torch.where((slope.abs() > 1e-3) & (near != x), slope * x, y) if case.name not in ROWS else y), dx


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_an_activation_is_right_over_the_whole_range(case: Case, dtype: torch.dtype) -> None:
    values = torch.tensor(numbers(dtype), dtype=torch.float64)
    # Softmaxes and gates: huge and small numbers meet in a row.
    values = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]
    x = values[: len(values) // 12 * 12].view(-1, 6).to(dtype)
    for arguments in case.combinations():
        x = x.T if arguments.get("dim") == 0 else x
        layer, twin = case.layer(**arguments).to(dtype), case.twin(**arguments)
        shape = layer(x).shape
        # No more than 1, because autograd multiplies x by it.
        dy = torch.linspace(0.25, 1, shape.numel()).view(shape).to(dtype)
        y, dx = right(case, twin, x.double(), dy.double())
        for form in (nullcontext, plain):
            for engine in (handwritten, by_autograd):
                title = f"{layer}, {dtype}, {form.__name__}, {engine.__name__}"
                with form():
                    found, gradient = engine(layer, x, dy)
                # A gate near 0 or 1, or 1 - gate, is off by a unit of 1, which is multiplied: by an x up to 40 where
                # gates saturate, in the slope of GELU's tanh form by its cube, and in GLU by any other half.
                gated = x.double().abs().clamp_min(1).amax(arguments["dim"], keepdim=True) if case.name == "glu" else 1
                rtol = case.twin_options.get("rtol", 0.0)
                assert_right(found, y, 16 * gated, f"{title}: y")
                assert_right(gradient, dx, 64 * gated, f"{title}: dx", rtol)
