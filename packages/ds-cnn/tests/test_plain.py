"""Every fast form of ds-cnn against the plain one it is linked to."""

import sys

import pytest
import torch
from ds_cnn import AvgPool2d, plain_avg_pool2d, plain_avg_pool2d_backward
from ds_cnn.avg_pool2d import IMPLEMENTATIONS
from ds_core import plain, record
from ds_core.speed.plain import plain_pairs
from ds_core.testing import check_plain

IMAGE, SMALL = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 4, 2)
# windows that overlap, with padding, not square; windows apart, the last of which sticks out
GEOMETRIES = [((3, 2), (2, 3), (1, 0)), ((1, 2), (2, 4), (0, 1))]
DIVISOR = torch.rand(4, 2) + 0.5

# name of the fast form -> its cases, each a tuple of arguments
CASES = {
    "avg_pool2d": [(IMAGE, DIVISOR, *geometry) for geometry in GEOMETRIES] + [(IMAGE[:0], DIVISOR, *GEOMETRIES[0])],
    "avg_pool2d_backward": [(SMALL, (7, 5), DIVISOR, *geometry) for geometry in GEOMETRIES],
    "window_sums": [(IMAGE, dim, 3, 3, 2, 1) for dim in (-1, -2)] + [(IMAGE, -2, 2, 1, 4, 0)],
    "window_sums_backward": [(SMALL, -2, 7, 3, 2, 1), (SMALL, -1, 5, 2, 3, 0), (SMALL, -1, 5, 1, 2, 0)],
}


@pytest.mark.parametrize("pair", plain_pairs("ds_cnn"), ids=lambda pair: pair.fast.__qualname__)
def test_plain_and_fast_agree(pair):
    for case in CASES[pair.fast.__qualname__]:
        check_plain(pair.fast, *case)


def test_every_case_is_of_a_pair():
    assert set(CASES) == {pair.fast.__qualname__ for pair in plain_pairs("ds_cnn")}


def test_loops_are_the_plain_pair():
    assert IMPLEMENTATIONS["loops"] == (plain_avg_pool2d, plain_avg_pool2d_backward)


def test_plain_runs_the_loops(monkeypatch):
    """Inside the block the vectorized layer does what `loops` does, to the last bit, and adds no rows up."""
    monkeypatch.delattr(sys.modules["ds_cnn.avg_pool2d"], "window_sums")
    layers = AvgPool2d(3, 2, 1), AvgPool2d(3, 2, 1, implementation="loops")
    found = []
    with plain():
        for layer in layers:
            with record():
                y = layer(IMAGE)
                found.append((y, layer.backward(torch.cos(y))))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
