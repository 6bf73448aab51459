"""A recurrent network that predicts the next token of a text. Theory: docs/language_model.md."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from ds_core import Dropout, Embedding, Linear, Module, ShapeError, no_record
from torch import Tensor

from ds_rnn.recurrent.by_name import LAYERS

# B = streams of text side by side, T = tokens of a window, E = embed_dim, H = hidden_size, L = num_layers,
# V = vocab_size

State = tuple[Tensor, ...]  # each (L, B, H): h, and for an LSTM c


@dataclass(frozen=True)
class LanguageModelConfig:
    """The sizes of an `RNNLanguageModel`.

    Args:
        vocab_size: V, the number of different tokens.
        embed_dim: E, the length of a token's vector.
        hidden_size: H.
        num_layers: L.
        cell: "lstm", "gru" or "rnn".
        dropout: the share dropped of embeddings, between layers and of the last outputs.

    Raises:
        ValueError: a size below 1, or an unknown cell.
    """

    vocab_size: int
    embed_dim: int = 128
    hidden_size: int = 256
    num_layers: int = 2
    cell: str = "lstm"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocab_size", "embed_dim", "hidden_size", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"LanguageModelConfig: {name} is {getattr(self, name)}, expected at least 1")
        if self.cell not in LAYERS:
            raise ValueError(f"LanguageModelConfig: cell is {self.cell!r}, expected one of {[*LAYERS]}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class RNNLanguageModel(Module):
    """Logits of the token that follows each token of a text (Mikolov et al., "Recurrent neural network based language
    model", 2010).

    In training it may carry its state from one window of the text to the next: truncated backpropagation through time
    (Williams and Peng, 1990), whose gradient ends at the window's first token while the state does not begin anew. The
    state is a buffer (`carried_h`, for an LSTM `carried_c` too), so a checkpoint holds it.

    Args:
        config: the sizes.
        streams: B, how many stretches of text are read side by side in training; 0 for a model that carries nothing.
        generator: where the initial weights are drawn from.
    """

    unused_state = ("carried_h", "carried_c")  # of a model that was trained, if this one only writes

    def __init__(
        self,
        config: LanguageModelConfig,
        streams: int = 0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        made: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        self.tokens = Embedding(config.vocab_size, config.embed_dim, **made)
        self.input_dropout, self.output_dropout = Dropout(config.dropout), Dropout(config.dropout)
        self.layers = LAYERS[config.cell](
            config.embed_dim, config.hidden_size, config.num_layers, batch_first=True, dropout=config.dropout, **made
        )
        self.head = Linear(config.hidden_size, config.vocab_size, **made)
        self.streams = streams
        if streams:
            zeros = torch.zeros(config.num_layers, streams, config.hidden_size, device=device, dtype=dtype)
            self.carried_h = zeros
            if config.cell == "lstm":
                self.carried_c = zeros.clone()

    def forward(self, tokens: Tensor, carry: Tensor | None = None) -> Tensor:
        """tokens (B, T) int64 -> logits (B, T, V).

        Args:
            carry: (B,), 1 for a stream that continues where the window before ended, 0 for one that begins. Without it
                every row begins, and the carried state stays as it is.
        """
        if tokens.dim() != 2 or (carry is not None and not len(tokens) == len(carry) == self.streams):
            raise ShapeError(
                f"RNNLanguageModel: given tokens {tuple(tokens.shape)}"
                + ("" if carry is None else f" and carry {tuple(carry.shape)}")
                + ", expected (B, T)"
                + (
                    f" and (B,) with B = {self.streams}, the streams whose state is carried"
                    if carry is not None
                    else ""
                )
            )
        logits, last = self.advance(tokens, self.state_before(carry))
        if carry is not None:
            with no_record():
                for kind, value in zip(self._carried(), last, strict=True):
                    kind.copy_(value)  # no gradient goes back beyond the window
        return logits

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> None:
        """dlogits (B, T, V); tokens are whole numbers and get no gradient."""
        self.advance_backward(dlogits)  # the gradient of s_0 is thrown away: no window before this one gets any

    def state_before(self, carry: Tensor | None) -> State | None:
        """carry (B,), as in `forward` -> the state before the window, None for one that begins."""
        # s_0 of this window is s_T of the one before                                                       (2)
        return None if carry is None else tuple(kind * carry[:, None] for kind in self._carried())

    def advance(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """tokens (B, T), the state before them -> logits (B, T, V), the state after them."""
        x = self.input_dropout.forward(self.tokens.forward(tokens))
        y, last = self.layers.forward(x, _as_layers_do(state))
        logits = self.head.forward(self.output_dropout.forward(y))  # z_t = y_t W^T + b                     (1)
        return logits, last if isinstance(last, tuple) else (last,)

    def advance_backward(self, dlogits: Tensor | None, dlast: State | None = None) -> State:
        """dlogits (B, T, V), the gradient of the state after the tokens -> that of the state before them."""
        dy = self.output_dropout.backward(self.head.backward(dlogits))
        dx, dfirst = self.layers.backward(dy, _as_layers_do(dlast))
        self.tokens.backward(self.input_dropout.backward(dx))
        return dfirst if isinstance(dfirst, tuple) else (dfirst,)

    def _carried(self) -> State:
        return (self.carried_h, self.carried_c) if self.config.cell == "lstm" else (self.carried_h,)

    def extra_repr(self) -> str:
        return f"{self.config}, streams={self.streams}"


def _as_layers_do(state: State | None) -> State | Tensor | None:
    """A state of one kind as RNN and GRU take it, which is no tuple."""
    return state if state is None or len(state) > 1 else state[0]
