"""GRU: what is its own; test_recurrent.py has what the layers share."""

import pytest
import torch
from ds_core import record
from ds_rnn import GRU


def test_kept_numbers():
    """A step of a sequence keeps its input, its output, three gates and q: I + 5H numbers, and the first states."""
    layer, x = GRU(2, 4, dtype=torch.float64), torch.randn(5, 3, 2, dtype=torch.float64)
    with record() as trace:
        layer(x)
        assert sum(line.bytes for line in trace.kept()) // 8 == 5 * 3 * (2 + 5 * 4) + 3 * 4
        layer.backward(None)


def test_no_projection():
    for layer_class, error in ((torch.nn.GRU, ValueError), (GRU, TypeError)):
        with pytest.raises(error, match="proj_size"):
            layer_class(2, 3, proj_size=1)
