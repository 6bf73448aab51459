"""Recurrent networks whose every gradient is written by hand."""

from ds_rnn.__about__ import __version__
from ds_rnn.rnn_cell import RNNCell, plain_rnn_cell, plain_rnn_cell_backward, rnn_cell, rnn_cell_backward

__all__ = [
    "RNNCell",
    "__version__",
    "plain_rnn_cell",
    "plain_rnn_cell_backward",
    "rnn_cell",
    "rnn_cell_backward",
]
