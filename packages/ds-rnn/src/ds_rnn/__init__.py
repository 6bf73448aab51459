"""Recurrent networks whose every gradient is written by hand."""

from ds_rnn.__about__ import __version__
from ds_rnn.attention.additive_scores import (
    additive_scores,
    additive_scores_backward,
    plain_additive_scores,
    plain_additive_scores_backward,
)
from ds_rnn.attention.attention import AdditiveAttention, MultiplicativeAttention
from ds_rnn.attention.weighted_mean import (
    plain_weighted_mean,
    plain_weighted_mean_backward,
    weighted_mean,
    weighted_mean_backward,
)
from ds_rnn.language.language_model import LanguageModelConfig, RNNLanguageModel
from ds_rnn.language.state_gradient_norms import (
    StateGradientNorms,
    plot_state_gradient_norms,
    state_gradient_norms,
)
from ds_rnn.language.text_streams import TextStreams
from ds_rnn.language.write import write
from ds_rnn.recurrent.gradient_norms import gradient_norms
from ds_rnn.recurrent.gru import GRU
from ds_rnn.recurrent.gru_cell import GRUCell
from ds_rnn.recurrent.layer_norm_lstm_cell import LayerNormLSTMCell
from ds_rnn.recurrent.lstm import LSTM
from ds_rnn.recurrent.lstm_cell import LSTMCell
from ds_rnn.recurrent.peephole_lstm_cell import PeepholeLSTMCell
from ds_rnn.recurrent.recurrence import Recurrence, RecurrentCell
from ds_rnn.recurrent.rnn import RNN
from ds_rnn.recurrent.rnn_cell import RNNCell, plain_rnn_cell, plain_rnn_cell_backward, rnn_cell, rnn_cell_backward
from ds_rnn.seq2seq.decoders import BahdanauDecoder, LuongDecoder
from ds_rnn.seq2seq.seq2seq_rnn import Seq2SeqRNN, Seq2SeqRNNConfig
from ds_rnn.seq2seq.teacher_forcing import TeacherForcing
from ds_rnn.sequences.sequence_models import SequenceClassifier, SequenceTagger

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "BahdanauDecoder",
    "GRUCell",
    "LSTMCell",
    "LanguageModelConfig",
    "LayerNormLSTMCell",
    "LuongDecoder",
    "MultiplicativeAttention",
    "PeepholeLSTMCell",
    "RNNCell",
    "RNNLanguageModel",
    "Recurrence",
    "RecurrentCell",
    "Seq2SeqRNN",
    "Seq2SeqRNNConfig",
    "SequenceClassifier",
    "SequenceTagger",
    "StateGradientNorms",
    "TeacherForcing",
    "TextStreams",
    "__version__",
    "additive_scores",
    "additive_scores_backward",
    "gradient_norms",
    "plain_additive_scores",
    "plain_additive_scores_backward",
    "plain_rnn_cell",
    "plain_rnn_cell_backward",
    "plain_weighted_mean",
    "plain_weighted_mean_backward",
    "plot_state_gradient_norms",
    "rnn_cell",
    "rnn_cell_backward",
    "state_gradient_norms",
    "weighted_mean",
    "weighted_mean_backward",
    "write",
]
