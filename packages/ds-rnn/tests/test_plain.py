"""Every fast form of ds-rnn against the plain one it is linked to."""

import pytest
import torch
from ds_core import plain, record
from ds_core.speed.plain import plain_pairs
from ds_core.testing import check_plain
from ds_rnn import RNNCell, plain_rnn_cell
from ds_rnn.rnn_cell import IMPLEMENTATIONS


def arguments(n, inputs, hidden):
    """x, h, weights, biases; the sums of the first row are so large that tanh is 1, those of the second are zeros."""
    x, h = torch.randn(n, inputs), torch.randn(n, hidden)
    x[:1] *= 100
    x[1:2], h[1:2] = 0, 0
    return x, h, torch.randn(hidden, inputs), torch.randn(hidden, hidden), torch.zeros(hidden), torch.zeros(hidden)


# name of the fast form -> its cases, each a tuple of arguments and a dict of named ones
CASES = {"rnn_cell": [], "rnn_cell_backward": []}
for size in [(3, 2, 4), (1, 1, 1), (0, 2, 3)]:
    for nonlinearity in ("tanh", "relu"):
        x, h, *weights, bias_ih, bias_hh = arguments(*size)
        for biases in ((bias_ih, bias_hh), (None, None)):
            CASES["rnn_cell"].append(((x, h, *weights, *biases, nonlinearity), {}))
        h_next = plain_rnn_cell(x, h, *weights, bias_ih, bias_hh, nonlinearity)
        for needs in [(True,) * 5, (False, True, False, True, True), (True, False, True, False, False)]:
            given = (torch.randn(h.shape), x, h, h_next, *weights, nonlinearity)
            CASES["rnn_cell_backward"].append((given, {"needs": needs}))


@pytest.mark.parametrize("pair", plain_pairs("ds_rnn"), ids=lambda pair: pair.fast.__qualname__)
def test_plain_and_fast_agree(pair):
    for case, named in CASES[pair.fast.__qualname__]:
        check_plain(pair.fast, *case, **named)


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
