"""Recurrent layers by the names that options and configurations have for them."""

from typing import Any

from ds_rnn.recurrent.gru import GRU
from ds_rnn.recurrent.lstm import LSTM
from ds_rnn.recurrent.rnn import RNN

LAYERS: dict[str, Any] = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
