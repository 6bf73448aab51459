"""Luong's and Bahdanau's decoders, held against the same of torch.nn's parts."""

import pytest
import torch
from ds_core import Module, ShapeError, TraceError, no_record, record
from ds_core.testing import check_layer, one_graph
from ds_rnn import BahdanauDecoder, LuongDecoder
from ds_rnn.seq2seq.decoders import Memory, Readout
from seq2seq_twins import DecoderOfTorch, weights_for_torch

# B = 2 sequences, T = 3 steps, S = 4 positions
EMBED, HIDDEN, MEMORY = 3, 4, 5
KINDS = pytest.mark.parametrize("kind", ["luong", "bahdanau", "none"])
CELLS = pytest.mark.parametrize("cell", ["lstm", "gru"])


def some_decoder(kind, cell="lstm", layers=2, dropout=0.0, dtype=torch.float64):
    sizes = (EMBED, HIDDEN, MEMORY, layers, cell, dropout)
    if kind == "bahdanau":
        return BahdanauDecoder(*sizes, dtype=dtype)
    return LuongDecoder(*sizes, attend=kind == "luong", dtype=dtype)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def some_inputs(decoder, cell="lstm", layers=2, batch=2, steps=3, positions=4):
    """x, state, values, keys, padding: the second sequence is two positions long."""
    state = tuple(draw(layers, batch, HIDDEN) for _ in range(2 if cell == "lstm" else 1))
    values, padding = draw(batch, positions, MEMORY), torch.zeros(batch, positions, dtype=torch.bool)
    padding[1:, 2:] = True
    keys = None if decoder.attention is None else draw(batch, positions, HIDDEN)
    return draw(batch, steps, EMBED), state, values, keys, padding


class Decoded(Module):
    """A decoder whose memory and its gradients are tensors one by one."""

    def __init__(self, decoder):
        self.decoder = decoder

    def forward(self, x, state, values, keys=None, padding=None):
        return self.decoder.forward(x, state, Memory(values, keys, padding))[0]

    def backward(self, dy):
        dx, dstate, dmemory = self.decoder.backward(dy)
        return (dx, dstate) if self.decoder.attention is None else (dx, dstate, *dmemory)


@KINDS
@CELLS
@pytest.mark.parametrize("layers", [1, 2])
def test_against_torch(kind, cell, layers):
    ours = some_decoder(kind, cell, layers)
    ours.attention and ours.attention.keys.requires_grad_(False)  # the caller makes the keys
    theirs = DecoderOfTorch(EMBED, HIDDEN, MEMORY, layers, cell, kind).double()
    theirs.load_state_dict(weights_for_torch(ours.state_dict()))
    x, state, values, keys, padding = some_inputs(ours, cell, layers)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, *state, values, *([] if keys is None else [keys]))]
    y = theirs(leaves[0], tuple(leaves[1 : 1 + len(state)]), leaves[1 + len(state)], leaves[-1], padding)
    dy = torch.randn_like(y)
    y.backward(dy)
    with record():
        found = ours.forward(x, state, Memory(values, keys, padding))[0]
        dx, dstate, dmemory = ours.backward(dy)
    gradients = [dx, *dstate, dmemory.values, *([] if keys is None else [dmemory.keys])]
    torch.testing.assert_close(found, y.detach(), rtol=1e-12, atol=1e-12)
    for given, leaf in zip(gradients, leaves, strict=True):
        if kind == "none" and leaf is leaves[-1]:  # the memory
            assert given is None
            assert leaf.grad is None
            continue
        torch.testing.assert_close(given, leaf.grad, rtol=1e-11, atol=1e-12)
    of_ours = weights_for_torch({name: parameter.grad for name, parameter in ours.named_parameters()})
    for name, parameter in theirs.named_parameters():
        if not name.startswith("attention.keys"):
            torch.testing.assert_close(of_ours[name], parameter.grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "cell", "layers"),
    [("luong", "lstm", 2), ("luong", "gru", 1), ("bahdanau", "lstm", 1), ("bahdanau", "gru", 2), ("none", "gru", 2)],
)
def test_layer(kind, cell, layers):
    """With dropout, between the layers too. input_gradient=False is for layers with one input."""
    decoder = some_decoder(kind, cell, layers, dropout=0.3)
    if decoder.attention is not None:
        decoder.attention.keys.requires_grad_(False)
    x, state, values, keys, padding = some_inputs(decoder, cell, layers)
    inputs = (x, state, values) if keys is None else (x, state, values, keys, padding)
    dims = [0, 1, 0, 0, 0][: len(inputs)]
    constants = ["values"] if keys is None else []
    skip = ["input_gradient"]
    check_layer(Decoded(decoder), *inputs, batch_dim=dims, constants=constants, skip=skip, samples=2)


@KINDS
@CELLS
def test_step_by_step(kind, cell):
    """Three steps at once are three times one step: what decoding relies on."""
    decoder = some_decoder(kind, cell)
    x, state, *memory = some_inputs(decoder, cell)
    with no_record():
        y, last = decoder.forward(x, state, Memory(*memory))
        steps = []
        for t in range(x.shape[1]):
            y_t, state = decoder.forward(x[:, t : t + 1], state, Memory(*memory))
            steps.append(y_t)
    torch.testing.assert_close(torch.cat(steps, 1), y, rtol=1e-12, atol=1e-12)
    for one, other in zip(state, last, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["luong", "bahdanau"])
def test_dropout_between_layers(kind):
    """With p = 1 nothing of the first layer's output reaches the second, but its own state goes on."""
    decoder = some_decoder(kind, dropout=1.0)
    decoder.readout.dropout.p = 0.0
    x, state, *memory = some_inputs(decoder)
    first = {name: tensor for name, tensor in decoder.state_dict().items() if "l0" in name or "cells.0" in name}
    with no_record():
        y, _ = decoder.forward(x, state, Memory(*memory))
        decoder.load_state_dict(decoder.state_dict() | {name: 2 * tensor for name, tensor in first.items()})
        again, _ = decoder.forward(x, state, Memory(*memory))
        assert torch.equal(y, again)
        assert not torch.equal(decoder.eval().forward(x, state, Memory(*memory))[0], y)


@pytest.mark.parametrize("kind", ["luong", "bahdanau"])
def test_nothing_to_look_at(kind):
    """A source of padding alone: contexts are zeros, gradients finite, and those of its memory zeros."""
    decoder = some_decoder(kind)
    x, state, values, keys, padding = some_inputs(decoder)
    padding[0] = True
    with record():
        y, _ = decoder.forward(x, state, Memory(values, keys, padding))
        dx, dstate, dmemory = decoder.backward(torch.ones_like(y))
    assert all(bool(tensor.isfinite().all()) for tensor in (y, dx, *dstate, *dmemory))
    assert torch.equal(dmemory.values[0], torch.zeros_like(values[0]))
    assert torch.equal(dmemory.keys[0], torch.zeros_like(keys[0]))


@KINDS
def test_no_gradient_takes_all_entries(kind):
    decoder = some_decoder(kind)
    x, state, *memory = some_inputs(decoder)
    with record():  # raises if an entry is left over
        decoder.forward(x, state, Memory(*memory))
        dx, dstate, dmemory = decoder.backward(None)
    assert (dx, dstate, *dmemory) == (None, (None, None), None, None)
    assert all(parameter.grad is None for parameter in decoder.parameters())


@KINDS
def test_memory_grows_with_the_steps(kind):
    """T steps keep T times what one keeps, beside the memory that they share: nothing of T squared."""
    decoder, kept = some_decoder(kind), []
    for steps in (4, 8, 12):
        x, state, *memory = some_inputs(decoder, steps=steps)
        with record() as trace:
            decoder.forward(x, state, Memory(*memory))
            kept.append(sum(line.bytes for line in trace.kept()))
            trace.take()
    assert kept[2] - kept[1] == kept[1] - kept[0] > 0


class GivenStates(Module):
    """In place of recurrent layers: the states are the inputs."""

    def forward(self, x, state):
        self.save()
        return x, state

    def backward(self, dstates, dlast=None):
        self.saved()
        return dstates, None


def test_worked_example():
    decoder = LuongDecoder(1, 1, 1, 1, "gru", 0.0, dtype=torch.float64)
    decoder.layers = GivenStates()
    decoder.readout.mixed.weight.data = torch.tensor([[0.5, 1.0]], dtype=torch.float64)
    x = torch.tensor([[[0.5]]], dtype=torch.float64)
    values = torch.tensor([[[2.0], [0.0]]], dtype=torch.float64)
    keys = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    with record() as trace:
        y, _ = decoder.forward(x, (x,), Memory(values, keys, None))
        p = next(
            entry.saved[0]
            for entry in trace.entries
            if entry.layer is decoder.attention and len(entry.saved) == 2 and entry.saved[0].shape == (1, 1, 2)
        )
        dx, _, dmemory = decoder.backward(torch.ones_like(y))

    def same(found, *expected):
        torch.testing.assert_close(found.flatten(), torch.tensor(expected).double(), rtol=0, atol=6e-5)

    same(p, 0.7311, 0.2689)
    same(p @ values, 1.4621)
    same(0.5 * p @ values + x, 1.2311)
    same(y, 0.8429)
    same(1 - y * y, 0.2895)
    same(0.5 * (1 - y * y), 0.1448)
    same(decoder.readout.mixed.weight.grad, 0.4233, 0.1448)
    same(p[..., :1] * p[..., 1:] * (1 - y * y), 0.0569)
    same(2 * p[..., :1] * p[..., 1:] * (1 - y * y), 0.1139)
    same(dx, 0.4034)
    same(dmemory.values, 0.1058, 0.0389)
    same(dmemory.keys, 0.0285, -0.0285)


def test_readout_without_contexts():
    readout = Readout(HIDDEN, EMBED, 0.0, dtype=torch.float64)
    states = draw(2, 3, HIDDEN)
    with record():
        y = readout(states, None)
        dstates, dcontexts = readout.backward(torch.ones_like(y))
    torch.testing.assert_close(y, torch.tanh(states @ readout.mixed.weight.t()))
    assert (dstates.shape, dcontexts) == (states.shape, None)


@KINDS
def test_unknown_cell(kind):
    with pytest.raises(ValueError, match=r"decoder: given cell='rnn', expected one of \['gru', 'lstm'\]"):
        some_decoder(kind, "rnn")


@pytest.mark.parametrize("kind", ["luong", "bahdanau"])
@pytest.mark.parametrize(
    "wrong", ["width", "batch", "rank", "no steps", "state", "layers", "keys", "padding", "values"]
)
def test_impossible_shapes(kind, wrong):
    decoder = some_decoder(kind)
    x, state, values, keys, padding = some_inputs(decoder)
    x = {"width": x[..., :2], "batch": x[:1], "rank": x[0], "no steps": x[:, :0]}.get(wrong, x)
    state = {"state": tuple(part[..., :2] for part in state), "layers": tuple(part[:1] for part in state)}.get(
        wrong, state
    )
    keys = keys[..., :2] if wrong == "keys" else keys
    padding = padding[:, :2] if wrong == "padding" else padding
    values = values[:1] if wrong == "values" else values
    with pytest.raises(ShapeError, match=r"given .* expected"):
        decoder.forward(x, state, Memory(values, keys, padding))


@pytest.mark.parametrize("kind", ["luong", "bahdanau"])
def test_a_memory_without_keys(kind):
    decoder = some_decoder(kind)
    x, state, values, _, padding = some_inputs(decoder)
    with pytest.raises(ValueError, match="decoder: given a memory without keys"):
        decoder.forward(x, state, Memory(values, None, padding))


@KINDS
def test_backward_twice(kind):
    decoder = some_decoder(kind)
    x, state, *memory = some_inputs(decoder)
    with record():
        y, _ = decoder.forward(x, state, Memory(*memory))
        decoder.backward(y)
        with pytest.raises(TraceError):
            decoder.backward(y)


def test_compiles_whole():
    """Bahdanau's; Luong's is a GRU and an attention, which have tests of their own."""
    decoder = some_decoder("bahdanau", "gru", layers=1)
    given = some_inputs(decoder, "gru", layers=1, steps=2)

    def step(x, state, values, keys, padding):
        decoder.zero_grad()
        with record():
            y, _ = decoder.forward(x, state, Memory(values, keys, padding))
            dx, dstate, dmemory = decoder.backward(torch.cos(y))
            return y, dx, *dstate, *dmemory, decoder.readout.mixed.weight.grad

    compiled = one_graph(step)
    torch.testing.assert_close(compiled(*given), step(*given))


@KINDS
def test_bfloat16(kind):
    decoder = some_decoder(kind, dtype=torch.bfloat16)
    wide = some_decoder(kind)
    wide.load_state_dict(decoder.state_dict())
    x, state, values, keys, padding = some_inputs(decoder)
    narrow = [None if tensor is None else tensor.bfloat16() for tensor in (values, keys)]
    with record():
        y, _ = decoder.forward(x.bfloat16(), tuple(part.bfloat16() for part in state), Memory(*narrow, padding))
        dx, *_ = decoder.backward(torch.ones_like(y))
    expected, _ = wide.forward(x, state, Memory(values, keys, padding))
    assert y.dtype == dx.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), expected.detach(), rtol=0, atol=0.2)
