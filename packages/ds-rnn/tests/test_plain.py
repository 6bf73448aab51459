"""Every fast form of ds-rnn against the plain one it is linked to."""

import importlib
import pkgutil

import ds_rnn
import plain_cases_attention
import plain_cases_recurrent
import pytest
import torch
from ds_core import plain, record
from ds_core.speed.plain import plain_pairs
from ds_core.testing import check_plain
from ds_rnn import RNNCell, plain_rnn_cell
from ds_rnn.recurrent.rnn_cell import IMPLEMENTATIONS

for module in pkgutil.walk_packages(ds_rnn.__path__, "ds_rnn."):
    importlib.import_module(module.name)

# name of the fast form -> its cases, each a tuple of arguments, or a tuple of arguments and a dict of named ones
CASES = {**plain_cases_attention.CASES, **plain_cases_recurrent.CASES}


@pytest.mark.parametrize("pair", plain_pairs("ds_rnn"), ids=lambda pair: pair.fast.__qualname__)
def test_plain_and_fast_agree(pair):
    cases = CASES.get(pair.fast.__qualname__, ())
    assert cases, f"{pair.name} has no case in the plain_cases files"
    for case in cases:
        arguments, named = case if len(case) == 2 and isinstance(case[1], dict) else (case, {})
        check_plain(pair.fast, *arguments, **named)


def test_every_case_is_of_a_pair():
    assert set(CASES) == {pair.fast.__qualname__ for pair in plain_pairs("ds_rnn")}


def test_plain_runs_the_loops(monkeypatch):
    """Inside the block the vectorized cell does what `loops` does, to the last bit, and multiplies no matrices."""
    cells = RNNCell(3, 4), RNNCell(3, 4, implementation="loops")
    cells[1].load_state_dict(cells[0].state_dict())
    x, found = torch.randn(2, 3), []
    monkeypatch.delattr(torch, "mm")
    with plain():
        for cell in cells:
            with record():
                h = cell(x)
                found.append([h, *cell.backward(torch.cos(h)), *(parameter.grad for parameter in cell.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_loops_are_the_plain_pair():
    assert IMPLEMENTATIONS["loops"][0] is plain_rnn_cell
