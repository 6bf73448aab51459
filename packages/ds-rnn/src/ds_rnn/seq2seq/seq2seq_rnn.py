"""Source and target tokens to logits: recurrent encoder and decoder, with attention. Theory: docs/seq2seq_rnn.md."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from ds_core import (
    Dropout,
    Embedding,
    Linear,
    Module,
    ShapeError,
    accumulate,
    drawn,
    linear,
    linear_backward,
    no_record,
    parameter,
)
from ds_core.activations.tanh import tanh, tanh_backward
from ds_core.engine.composition import merge_gradients
from ds_core.initializers import normal_
from ds_core.training.evaluation import evaluation_mode
from torch import Tensor

from ds_rnn.seq2seq.decoders import LAYERS, BahdanauDecoder, LuongDecoder, Memory, State

# B = sentences, S = source tokens, T = target tokens, E = embed_dim, H = hidden_size, L = num_layers, V = target_vocab,
# R = rows of a search

ATTENTIONS = ("luong", "bahdanau", "none")


@dataclass(frozen=True)
class Seq2SeqRNNConfig:
    """The sizes of a `Seq2SeqRNN`.

    Args:
        source_vocab, target_vocab: how many different tokens each language has.
        embed_dim: E, the length of a token's vector.
        hidden_size: H, of each direction of the encoder and of the decoder.
        num_layers: L, in the encoder and in the decoder.
        cell: "lstm" or "gru".
        attention: "luong", "bahdanau", or "none": the decoder knows of the source what the encoder's last state holds.
        dropout: the share dropped of embeddings, between layers, and of readouts.
        shared: one embedding for both languages, whose vocabulary is one.
        tied: the projection is the target embedding's matrix (Press and Wolf, 2017), without a bias.
        pad: the token that fills up sentences, never seen.

    Raises:
        ValueError: sizes that are not positive, or contradict each other, or an unknown cell or attention.
    """

    source_vocab: int
    target_vocab: int
    embed_dim: int = 256
    hidden_size: int = 256
    num_layers: int = 1
    cell: str = "lstm"
    attention: str = "luong"
    dropout: float = 0.1
    shared: bool = True
    tied: bool = True
    pad: int = 0

    def __post_init__(self) -> None:
        for name in ("source_vocab", "target_vocab", "embed_dim", "hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"Seq2SeqRNNConfig: {name} is {getattr(self, name)}, expected at least 1")
        for name, known in (("cell", tuple(LAYERS)), ("attention", ATTENTIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"Seq2SeqRNNConfig: {name} is {getattr(self, name)!r}, expected one of {known}")
        if self.shared and self.source_vocab != self.target_vocab:
            raise ValueError(
                f"Seq2SeqRNNConfig: shared=True, but source_vocab is {self.source_vocab} and target_vocab "
                f"{self.target_vocab}: a shared embedding needs one vocabulary"
            )
        if not 0 <= self.pad < min(self.source_vocab, self.target_vocab):
            raise ValueError(f"Seq2SeqRNNConfig: pad is {self.pad}, expected a token of both vocabularies")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class DecodingState:
    """What a search continues from: the decoder's state and the memory, R = B width rows."""

    state: State
    memory: Memory


class Seq2SeqRNN(Module):
    """Logits of every target token from the source and the target tokens before it (Sutskever, Vinyals and Le,
    "Sequence to Sequence Learning with Neural Networks", 2014, with the attention of Bahdanau or of Luong).

    A bidirectional encoder reads the source, a bridge makes the decoder's first state of its last one, and the
    decoder's readouts are projected to the vocabulary, which may be the embedding's own matrix. It is also a
    `StepwiseDecoder`: `greedy` and `beam_search` translate with it. In training the decoder is given the true tokens;
    if `teacher_forcing` is set below 1, some of its own in their place (docs/teacher_forcing.md).

    Args:
        config: the sizes.
        generator: where the initial weights are drawn from.

    Raises:
        ShapeError: from `forward`, if source and target are not (B, S) and (B, T), or T is 0.
        ValueError: from `forward`, if padding stands before other tokens of the source.
    """

    def __init__(
        self,
        config: Seq2SeqRNNConfig,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        made: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        embed_dim, hidden, layers = config.embed_dim, config.hidden_size, config.num_layers
        self.source_tokens = Embedding(config.source_vocab, embed_dim, **made)
        self.target_tokens = self.source_tokens if config.shared else Embedding(config.target_vocab, embed_dim, **made)
        self.source_dropout, self.target_dropout = Dropout(config.dropout), Dropout(config.dropout)
        self.encoder = LAYERS[config.cell](
            embed_dim, hidden, layers, batch_first=True, dropout=config.dropout, bidirectional=True, **made
        )
        kinds = 2 if config.cell == "lstm" else 1
        self.bridges = [Linear(2 * hidden, hidden, **made) for _ in range(kinds)]
        self.decoder: Any
        if config.attention == "bahdanau":
            self.decoder = BahdanauDecoder(embed_dim, hidden, 2 * hidden, layers, config.cell, config.dropout, **made)
        else:
            attend = config.attention == "luong"
            self.decoder = LuongDecoder(
                embed_dim, hidden, 2 * hidden, layers, config.cell, config.dropout, attend=attend, **made
            )
        self._true_share: Tensor | None = None  # (), no part of the weights; None: 1
        self.projection: Tensor | None = None
        if not config.tied:
            self.projection = parameter(torch.empty(config.target_vocab, embed_dim, device=device, dtype=dtype))
        with torch.no_grad():
            # times sqrt(E), embeddings then have variance 1
            normal_(self.source_tokens.weight, std=embed_dim**-0.5, generator=generator)
            if not config.shared:
                normal_(self.target_tokens.weight, std=embed_dim**-0.5, generator=generator)
            if self.projection is not None:
                normal_(self.projection, std=embed_dim**-0.5, generator=generator)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (B, S), target (B, T) int64 -> logits of the token that follows each of the target, (B, T, V)."""
        if source.dim() != 2 or target.dim() != 2 or source.shape[0] != target.shape[0] or target.shape[1] == 0:
            raise ShapeError(
                f"Seq2SeqRNN: given source {tuple(source.shape)} and target {tuple(target.shape)}, expected (B, S) "
                "and (B, T) with one B and at least one target token"
            )
        state, memory = self._encode(source)
        x = self._embed(self.target_tokens, self.target_dropout, self._given(target, state, memory))
        y, _ = self.decoder.forward(x, state, memory)
        self.save(y, reads=[self._output_weight()])
        return linear(y, self._output_weight(), None)  # z_btv = sum_e o_bte W_ve                           (3)

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> tuple[None, None]:
        """dlogits (B, T, V); tokens are whole numbers and get no gradient."""
        dx, dstate, dmemory = self.decoder.backward(self._projection_backward(dlogits))
        self._embed_backward(self.target_tokens, self.target_dropout, dx)
        self._encode_backward(dstate, dmemory.values, dmemory.keys)
        return None, None

    @property
    def teacher_forcing(self) -> float:
        """The share of true tokens that the decoder is given in training, 0 ... 1; the others are its own.

        Raises:
            ValueError: it is set to what is no share.
        """
        return 1.0 if self._true_share is None else float(self._true_share)

    @teacher_forcing.setter
    def teacher_forcing(self, share: float) -> None:
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"Seq2SeqRNN: given teacher_forcing={share!r}, expected a share, 0 ... 1")
        if share == 1:
            self._true_share = None
        elif self._true_share is None:
            self._true_share = torch.tensor(float(share), device=self.target_tokens.weight.device)
        else:  # in place: a compiled step goes on with the same tensor
            self._true_share.fill_(share)

    def start(self, source: Tensor, width: int) -> DecodingState:
        """Read the source (B, S), for a search of `width` hypotheses a sentence."""
        if source.dim() != 2:
            raise ShapeError(f"Seq2SeqRNN: given source {tuple(source.shape)}, expected (B, S)")
        with no_record():
            found = DecodingState(*self._encode(source))
        sentences = torch.arange(len(source), device=source.device)
        self.select(found, sentences[:, None].expand(-1, width).flatten())  # each one `width` times
        return found

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """tokens (R,), the last of each row -> logits (R, V) of the next."""
        with no_record():
            x = self._embed(self.target_tokens, self.target_dropout, tokens.unsqueeze(1))
            y, state.state = self.decoder.forward(x, state.state, state.memory)
            return linear(y.squeeze(1), self._output_weight(), None)

    def select(self, state: DecodingState, rows: Tensor) -> None:
        """Let row i continue what row `rows[i]` was, rows (R',) int64."""
        state.state = tuple(kind[:, rows] for kind in state.state)
        memory = state.memory
        state.memory = Memory(*(None if part is None else part[rows] for part in memory))  # type: ignore[arg-type]

    def _given(self, target: Tensor, state: State, memory: Memory) -> Tensor:
        """target (B, T), state and memory -> the tokens that the decoder is given, (B, T).

        In training some are those that it writes itself after those given before, never padding, and without dropout of
        the decoder. No gradient goes through the choice, so backward is that of a target with these tokens.
        """
        if self._true_share is None or not self.training:
            return target
        share, pad = self._true_share, self.config.pad
        true = drawn(lambda: torch.rand(target.shape, device=target.device) < share) | (target == pad)
        given, found = [target[:, 0]], DecodingState(state, memory)
        with evaluation_mode(self):
            for t in range(1, target.shape[1]):
                logits = self.step(given[-1], found)
                logits[:, pad] = float("-inf")
                # w'_t = w_t if u_t < e, else argmax_v z'_(t-1)v                       (1) of docs/teacher_forcing.md
                given.append(torch.where(true[:, t], target[:, t], logits.argmax(1)))
        return torch.stack(given, 1)

    def _encode(self, source: Tensor) -> tuple[State, Memory]:
        padding = source == self.config.pad  # (B, S)
        if bool((padding[:, :-1] & ~padding[:, 1:]).any()):
            raise ValueError(
                f"Seq2SeqRNN: given a source with padding (token {self.config.pad}) before other tokens, expected it "
                "at the end of each sentence alone"
            )
        x = self._embed(self.source_tokens, self.source_dropout, source)
        values, last = self.encoder.forward(x, lengths=(~padding).sum(1))
        state = []
        for bridge, kind in zip(self.bridges, last if isinstance(last, tuple) else (last,), strict=True):
            both = torch.cat([kind[0::2], kind[1::2]], 2)  # forwards and backwards: (L, B, 2H)
            state.append(tanh(bridge.forward(both)))  # s_0 = tanh(W [h_n; h_n'] + b)                       (2)
        attention = self.decoder.attention
        keys = None if attention is None else attention.keys.forward(values)
        self.save(*state)
        return tuple(state), Memory(values, keys, padding)

    def _encode_backward(self, dstate: tuple[Tensor | None, ...], dvalues: Tensor | None, dkeys: Tensor | None) -> None:
        state = self.saved()
        if self.decoder.attention is not None:
            # dm_s = of the contexts + W^T dk_s of the keys                                                 (6)
            dvalues = merge_gradients(dvalues, self.decoder.attention.keys.backward(dkeys))
        dlast: list[Tensor | None] = []
        for bridge, y, dy in reversed(list(zip(self.bridges, state, dstate, strict=True))):
            # [dh_n; dh_n'] = W^T (ds_0 (1 - s_0^2))                                                        (7)
            dboth = bridge.backward(None if dy is None else tanh_backward(dy, y))
            if dboth is None:
                dlast.insert(0, None)
                continue
            forwards, backwards = dboth.chunk(2, 2)
            dlast.insert(0, torch.stack([forwards, backwards], 1).flatten(0, 1))  # (2L, B, H)
        dx, _ = self.encoder.backward(dvalues, tuple(dlast) if len(dlast) > 1 else dlast[0])
        self._embed_backward(self.source_tokens, self.source_dropout, dx)

    def _embed(self, embedding: Embedding, dropout: Dropout, tokens: Tensor) -> Tensor:
        # x_bte = sqrt(E) W_(token bt),e                                                                    (1)
        return dropout.forward(embedding.forward(tokens) * math.sqrt(self.config.embed_dim))

    def _embed_backward(self, embedding: Embedding, dropout: Dropout, dx: Tensor | None) -> None:
        dx = dropout.backward(dx)
        # dW_v = sqrt(E) sum of dx_bt over the places of v                                                  (8)
        embedding.backward(None if dx is None else dx * math.sqrt(self.config.embed_dim))

    def _projection_backward(self, dlogits: Tensor | None) -> Tensor | None:
        (y,) = self.saved()
        if dlogits is None:
            return None
        weight = self._output_weight()
        # do_bt = sum_v dz_btv W_v,  dW_v = sum_bt dz_btv o_bt                                              (4), (5)
        dy, dweight, _ = linear_backward(dlogits, y, weight, (True, weight.requires_grad, False))
        accumulate(weight, dweight)
        return dy

    def _output_weight(self) -> Tensor:
        return self.target_tokens.weight if self.projection is None else self.projection

    def extra_repr(self) -> str:
        return str(self.config)
