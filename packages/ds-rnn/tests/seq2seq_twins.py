"""Small models, and the same of torch.nn's parts written anew: nn.LSTM, nn.GRU, packed sources, softmax, autograd."""

import dataclasses
import math

import torch
from ds_core import record
from ds_rnn import Seq2SeqRNN, Seq2SeqRNNConfig
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU}
TINY = Seq2SeqRNNConfig(11, 11, embed_dim=5, hidden_size=4, num_layers=2, dropout=0.0)
PAD, BEGIN = 0, 1


def some_model(dtype=torch.float64, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    return Seq2SeqRNN(dataclasses.replace(TINY, **changes), dtype=dtype, generator=generator)


def sharper(model):
    """The same model with weights so large that its choices differ from step to step and from source to source."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def some_tokens(source=5, target=4, vocab=11, seed=0):
    """Three sentences; the second source is three tokens long, the third one."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(1, vocab, (3, size), generator=generator) for size in (source, target))
    first[1, 3:] = first[2, 1:] = PAD
    return first, second


def some_pairs(target=6):
    """Three sentences; the second translation is three tokens long, with padding."""
    source, tokens = some_tokens(target=target)
    tokens[:, 0] = BEGIN
    tokens[1, 4:] = PAD
    return source, tokens


def gradients(model, source, target, dlogits):
    model.zero_grad()
    with record():
        logits = model(source, target)
        model.backward(dlogits)
    return logits, {name: parameter.grad for name, parameter in model.named_parameters()}


def weights_for_torch(state_dict):
    """Our names -> those of the twins: the cells of Bahdanau's decoder are one nn.LSTM there."""
    found = {}
    for name, tensor in state_dict.items():
        before, cells, after = name.partition("cells.")
        if cells:
            layer, weight = after.split(".")
            name = f"{before}layers.{weight}_l{layer}"
        found[name] = tensor
    return found


class DecoderOfTorch(nn.Module):
    """Luong's decoder, Bahdanau's, or one without attention, as the page of decoders writes them."""

    def __init__(self, embed_dim, hidden, memory, num_layers, cell, attention):
        super().__init__()
        self.kind = attention
        inputs = embed_dim + (memory if attention == "bahdanau" else 0)
        self.layers = LAYERS[cell](inputs, hidden, num_layers, batch_first=True)
        self.attention = nn.Module()
        if attention == "luong":
            self.attention.keys = nn.Linear(memory, hidden, bias=False)
        if attention == "bahdanau":
            self.attention.keys = nn.Linear(memory, hidden)
            self.attention.queries = nn.Linear(hidden, hidden, bias=False)
            self.attention.weight = nn.Parameter(torch.empty(hidden))
        self.readout = nn.Module()
        self.readout.mixed = nn.Linear(hidden + (0 if attention == "none" else memory), embed_dim, bias=False)

    def look(self, query, keys, values, padding):
        """query (B, T, H) -> contexts (B, T, M); rows of padding alone read zeros."""
        if self.kind == "luong":
            scores = torch.einsum("bth,bsh->bts", query, keys)
        else:
            inside = torch.tanh(self.attention.queries(query)[:, :, None] + keys[:, None])
            scores = torch.einsum("btsa,a->bts", inside, self.attention.weight)
        if padding is not None:
            scores = scores.masked_fill(padding[:, None], -1e30)
        p = scores.softmax(2)
        if padding is not None:
            p = p * ~padding[:, None]
        return torch.einsum("bts,bsm->btm", p, values)

    def forward(self, x, state, values, keys, padding):
        hx = state if len(state) > 1 else state[0]
        if self.kind == "none":
            return torch.tanh(self.readout.mixed(self.layers(x, hx)[0]))
        if self.kind == "luong":
            states, _ = self.layers(x, hx)
            contexts = self.look(states, keys, values, padding)
        else:
            steps, looks = [], []
            for t in range(x.shape[1]):
                top = (hx[0] if isinstance(hx, tuple) else hx)[-1]
                looks.append(self.look(top[:, None], keys, values, padding))
                y, hx = self.layers(torch.cat([x[:, t : t + 1], looks[-1]], 2), hx)
                steps.append(y)
            states, contexts = torch.cat(steps, 1), torch.cat(looks, 1)
        return torch.tanh(self.readout.mixed(torch.cat([contexts, states], 2)))


class Seq2SeqOfTorch(nn.Module):
    """`Seq2SeqRNN` without dropout, with the weights of ours under `weights_for_torch`."""

    def __init__(self, config: Seq2SeqRNNConfig):
        super().__init__()
        embed_dim, hidden, layers = config.embed_dim, config.hidden_size, config.num_layers
        self.config = config
        self.source_tokens = nn.Embedding(config.source_vocab, embed_dim)
        self.target_tokens = self.source_tokens if config.shared else nn.Embedding(config.target_vocab, embed_dim)
        self.encoder = LAYERS[config.cell](embed_dim, hidden, layers, batch_first=True, bidirectional=True)
        self.bridges = nn.ModuleList(nn.Linear(2 * hidden, hidden) for _ in range(2 if config.cell == "lstm" else 1))
        self.decoder = DecoderOfTorch(embed_dim, hidden, 2 * hidden, layers, config.cell, config.attention)
        self.projection = None
        if not config.tied:
            self.projection = nn.Parameter(torch.empty(config.target_vocab, embed_dim))

    def forward(self, source, target):
        padding = source == self.config.pad
        lengths = (~padding).sum(1)
        scale = math.sqrt(self.config.embed_dim)
        packed = pack_padded_sequence(
            scale * self.source_tokens(source), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, last = self.encoder(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        state = []
        for bridge, kind in zip(self.bridges, last if isinstance(last, tuple) else (last,), strict=True):
            forwards, backwards = kind.unflatten(0, (-1, 2)).unbind(1)
            state.append(torch.tanh(bridge(torch.cat([forwards, backwards], 2))).contiguous())
        keys = None if self.config.attention == "none" else self.decoder.attention.keys(values)
        y = self.decoder(scale * self.target_tokens(target), tuple(state), values, keys, padding)
        return y @ (self.target_tokens.weight if self.projection is None else self.projection).t()
