"""Autograd through the plain form of a forward function, against autograd through the fast one.

`check_plain` compares values. A formula can have the right value and a wrong slope: at a tie, at an end of its domain,
or because an infinity that a mask hides forward comes back as NaN.
"""

import importlib
import pkgutil
from contextlib import nullcontext

import ds_core.layers
import ds_core.losses
import plain_cases_layers
import plain_cases_losses
import pytest
import torch
from ds_core import plain
from ds_core.engine.nested_values import map_leaves
from ds_core.speed.plain import plain_pairs
from torch import Tensor

for folder in (ds_core.layers, ds_core.losses):
    for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
        importlib.import_module(module.name)

CASES = {**plain_cases_layers.CASES, **plain_cases_losses.CASES}
FORWARD = {name: cases for name, cases in CASES.items() if not name.endswith("_backward")}


def gradients(function, arguments, form):
    """Of each result by each floating argument, with random gradients of the results; zeros for None."""
    generator = torch.Generator().manual_seed(0)
    leaves = []

    def leaf(value):
        if isinstance(value, Tensor) and value.is_floating_point():
            leaves.append(value.detach().clone().double().requires_grad_())
            return leaves[-1]
        return value

    with form():
        results = function(*map_leaves(leaf, list(arguments)))
    found = []
    for result in results if isinstance(results, tuple) else (results,):
        if result is None or not result.is_floating_point():
            continue
        given = torch.randn(result.shape, generator=generator, dtype=result.dtype)
        found += (
            torch.autograd.grad(result, leaves, given, retain_graph=True, materialize_grads=True)
            if result.requires_grad
            else [torch.zeros_like(each) for each in leaves]
        )
    return found


@pytest.mark.parametrize("name", FORWARD)
def test_autograd_of_the_plain_form_is_that_of_the_fast_one(name):
    (pair,) = [pair for pair in plain_pairs("ds_core") if pair.fast.__qualname__ == name]
    for index, arguments in enumerate(FORWARD[name]):
        fast, slow = (gradients(pair.fast, arguments, form) for form in (nullcontext, plain))
        for one, other in zip(fast, slow, strict=True):
            torch.testing.assert_close(
                one, other, rtol=1e-12, atol=1e-12, equal_nan=True, msg=lambda text, at=index: f"case {at}: {text}"
            )
