"""Every fast form of ds-cnn against the plain one it is linked to."""

import importlib
import pkgutil
import sys

import ds_cnn
import plain_cases_convolution
import plain_cases_normalisation
import plain_cases_padding
import plain_cases_pooling
import plain_cases_resampling
import pytest
import torch
from ds_cnn import AvgPool2d, plain_avg_pool, plain_avg_pool_backward
from ds_cnn.pooling.avg_pool import IMPLEMENTATIONS
from ds_core import plain, record
from ds_core.speed.plain import plain_pairs
from ds_core.testing import check_plain

FAMILIES = (
    plain_cases_convolution,
    plain_cases_normalisation,
    plain_cases_padding,
    plain_cases_pooling,
    plain_cases_resampling,
)
for module in pkgutil.walk_packages(ds_cnn.__path__, "ds_cnn."):
    importlib.import_module(module.name)

IMAGE = torch.randn(2, 3, 7, 5)

# name of the fast form -> its cases, each a tuple of arguments, or a tuple of arguments and a dict of named ones
CASES = {name: cases for module in FAMILIES for name, cases in module.CASES.items()}


@pytest.mark.parametrize("pair", plain_pairs("ds_cnn"), ids=lambda pair: pair.fast.__qualname__)
def test_plain_and_fast_agree(pair):
    cases = CASES.get(pair.fast.__qualname__, ())
    assert cases, f"{pair.name} has no case in the plain_cases files"
    for case in cases:
        arguments, named = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
        check_plain(pair.fast, *arguments, **named)


def test_every_case_is_of_a_pair():
    assert set(CASES) == {pair.fast.__qualname__ for pair in plain_pairs("ds_cnn")}


def test_loops_are_the_plain_pair():
    assert IMPLEMENTATIONS["loops"] == (plain_avg_pool, plain_avg_pool_backward)


def test_plain_runs_the_loops(monkeypatch):
    """Inside the block the vectorized layer does what `loops` does, to the last bit, and adds no rows up."""
    monkeypatch.delattr(sys.modules["ds_cnn.pooling.avg_pool"], "window_sums")
    layers = AvgPool2d(3, 2, 1), AvgPool2d(3, 2, 1, implementation="loops")
    found = []
    with plain():
        for layer in layers:
            with record():
                y = layer(IMAGE)
                found.append((y, layer.backward(torch.cos(y))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
