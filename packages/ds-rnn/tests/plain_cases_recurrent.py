"""Cases of the plain pairs of cells, and of their steps through time."""

import torch
from ds_rnn import plain_rnn_cell
from ds_rnn.recurrent.gru_cell import plain_gru_cell
from ds_rnn.recurrent.gru_through_time import plain_gru_through_time
from ds_rnn.recurrent.lstm_cell import plain_lstm_cell
from ds_rnn.recurrent.lstm_through_time import plain_lstm_through_time
from ds_rnn.recurrent.rnn_through_time import plain_rnn_through_time

# sequences, input_size, hidden_size
SIZES = [(3, 2, 4), (1, 1, 1), (0, 2, 3)]
# b_t for as many sequences
WALKS = {3: [(3, 2, 2, 1), (3, 3), (2, 1), ()], 1: [(1,), (1, 1, 1)], 0: [(0, 0), ()]}

# name of the fast form -> its cases, each a tuple of arguments and a dict of named ones
CASES = {
    f"{kind}_{what}{back}": []
    for kind in ("rnn", "lstm", "gru")
    for what in ("cell", "through_time")
    for back in ("", "_backward")
}


def arguments(gates, n, inputs, hidden, shown=None):
    """x, h, weights, biases; the sums of the first row are so large that tanh is 1, those of the second are zeros."""
    shown = shown or hidden
    x, h = torch.randn(n, inputs), torch.randn(n, shown)
    x[:1] *= 100
    x[1:2], h[1:2] = 0, 0
    rows = gates * hidden
    return x, h, torch.randn(rows, inputs), torch.randn(rows, shown), torch.randn(rows), torch.randn(rows)


def some_needs(count):
    """All, none but the first two, and every second."""
    return [(True,) * count, tuple(i < 2 for i in range(count)), tuple(i % 2 == 1 for i in range(count))]


def add(name, given, needs=None):
    CASES[name] += [(given, {})] if needs is None else [(given, {"needs": flags}) for flags in needs]


for size in SIZES:
    n, inputs, hidden = size
    for nonlinearity in ("tanh", "relu"):
        x, h, *weights, bias_ih, bias_hh = arguments(1, *size)
        for biases in ((bias_ih, bias_hh), (None, None)):
            add("rnn_cell", (x, h, *weights, *biases, nonlinearity))
        h_next = plain_rnn_cell(x, h, *weights, bias_ih, bias_hh, nonlinearity)
        add("rnn_cell_backward", (torch.randn(h.shape), x, h, h_next, *weights, nonlinearity), some_needs(5))

    x, h, *weights, bias_ih, bias_hh = arguments(4, *size)
    c = torch.randn(h.shape)
    for biases in ((bias_ih, bias_hh), (None, None)):
        add("lstm_cell", (x, h, c, *weights, *biases))
    _, c_next, gates = plain_lstm_cell(x, h, c, *weights, bias_ih, bias_hh)
    dstates = torch.randn(2, *h.shape)
    add("lstm_cell_backward", (*dstates, x, h, c, c_next, gates, *weights), some_needs(6))

    x, h, *weights, bias_ih, bias_hh = arguments(3, *size)
    for biases in ((bias_ih, bias_hh), (None, None)):
        add("gru_cell", (x, h, *weights, *biases))
    _, gates, q = plain_gru_cell(x, h, *weights, bias_ih, bias_hh)
    add("gru_cell_backward", (torch.randn(h.shape), x, h, gates, q, *weights), some_needs(6))

    for index, sizes in enumerate(WALKS[n]):
        way = (sizes, index % 2 == 1)
        x = torch.randn(sum(sizes), inputs)
        for nonlinearity in ("tanh", "relu"):
            _, h, *weights = arguments(1, *size)
            given = (x, h, *weights, nonlinearity, *way)
            add("rnn_through_time", given)
            y, h_n = plain_rnn_through_time(*given)
            grads = torch.randn(y.shape), torch.randn(h_n.shape)
            add("rnn_through_time_backward", (*grads, x, h, y, *weights[:2], nonlinearity, *way), some_needs(5))

        for shown in (hidden, 2):
            _, h, *weights = arguments(4, *size, shown)
            c, weight_hr = torch.randn(n, hidden), None if shown == hidden else torch.randn(shown, hidden)
            given = (x, h, c, *weights, weight_hr, *way)
            add("lstm_through_time", given)
            y, h_n, c_n, gates, cells = plain_lstm_through_time(*given)
            grads = [torch.randn(tensor.shape) for tensor in (y, h_n, c_n)]
            given = (*grads, x, h, c, y, gates, cells, *weights[:2], weight_hr, *way)
            add("lstm_through_time_backward", given, some_needs(7))

        _, h, *weights = arguments(3, *size)
        given = (x, h, *weights, *way)
        add("gru_through_time", given)
        y, h_n, gates, q = plain_gru_through_time(*given)
        grads = torch.randn(y.shape), torch.randn(h_n.shape)
        add("gru_through_time_backward", (*grads, x, h, y, gates, q, *weights[:2], *way), some_needs(6))
