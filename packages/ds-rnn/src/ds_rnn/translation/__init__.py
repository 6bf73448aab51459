"""The recipe translate-rnn."""
