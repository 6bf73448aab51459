"""Source and target tokens to logits: embeddings, Transformer, projection. Theory: docs/seq2seq_transformer.md."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from ds_core import Dropout, Embedding, Module, ShapeError, accumulate, linear, linear_backward, no_record, parameter
from ds_core.initializers import normal_
from torch import Tensor

from ds_transformers.attentions.cache import ProjectedMemory
from ds_transformers.blocks.decoder_layer import DecoderCache
from ds_transformers.blocks.transformer import Transformer
from ds_transformers.positions.sinusoidal import SinusoidalPositions

# B = sentences, S = source tokens, T = target tokens, E = embed_dim, V = target_vocab, R = rows of a search


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The sizes of a `Seq2SeqTransformer`; the defaults are the paper's base model but for the vocabularies.

    Args:
        source_vocab, target_vocab: how many different tokens each language has.
        embed_dim: E, the length of a token's vector.
        num_heads: attention heads.
        dim_feedforward: width inside the feed-forward networks.
        num_encoder_layers, num_decoder_layers: the depth of each stack.
        dropout: the share dropped of embeddings, probabilities, hidden units and branches.
        activation: "relu" or "gelu".
        norm_first: pre-norm layers; the paper's are post-norm.
        shared: one embedding for both languages, whose vocabulary is one.
        tied: the projection is the target embedding's matrix (Press and Wolf, 2017), without a bias.
        share_weights: one layer for the whole of each stack.
        pad: the token that fills up sentences, never seen.

    Raises:
        ValueError: sizes that are not positive, or contradict each other.
    """

    source_vocab: int
    target_vocab: int
    embed_dim: int = 512
    num_heads: int = 8
    dim_feedforward: int = 2048
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    dropout: float = 0.1
    activation: str = "relu"
    norm_first: bool = False
    shared: bool = True
    tied: bool = True
    share_weights: bool = False
    pad: int = 0

    def __post_init__(self) -> None:
        sizes = ("embed_dim", "num_heads", "dim_feedforward", "num_encoder_layers", "num_decoder_layers")
        for name in ("source_vocab", "target_vocab", *sizes):
            if getattr(self, name) < 1:
                raise ValueError(f"Seq2SeqConfig: {name} is {getattr(self, name)}, expected at least 1")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"Seq2SeqConfig: {self.num_heads} heads do not divide an embed_dim of {self.embed_dim}")
        if self.shared and self.source_vocab != self.target_vocab:
            raise ValueError(
                f"Seq2SeqConfig: shared=True, but source_vocab is {self.source_vocab} and target_vocab "
                f"{self.target_vocab}: a shared embedding needs one vocabulary"
            )
        if not 0 <= self.pad < min(self.source_vocab, self.target_vocab):
            raise ValueError(f"Seq2SeqConfig: pad is {self.pad}, expected a token of both vocabularies")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class DecodingState:
    """What a search goes on from: caches of R = B width rows, and where the source is padding, (B, S)."""

    caches: list[DecoderCache]
    padding: Tensor
    width: int
    length: int = 0


class Seq2SeqTransformer(Module):
    """Logits of every target token from the source and the target tokens before it (Vaswani et al., 2017, figure 1).

    Embeddings times sqrt(E) plus sinusoidal positions, dropout, `Transformer`, and a projection to the vocabulary,
    which may be the embedding's own matrix (section 3.4). It is also a `StepwiseDecoder`: `greedy` and `beam_search`
    translate with it.

    Args:
        config: the sizes.
        implementation: of the attention.
        recompute: keep each layer's input only, see `TransformerEncoder`.
        generator: where the initial weights are drawn from.

    Raises:
        ShapeError: from `forward`, where source and target are not (B, S) and (B, T).
    """

    def __init__(
        self,
        config: Seq2SeqConfig,
        *,
        implementation: str = "vectorized",
        recompute: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.config = config
        made: dict[str, Any] = {"device": device, "dtype": dtype, "generator": generator}
        embed_dim = config.embed_dim
        deviation = embed_dim**-0.5  # times sqrt(E), embeddings then have variance 1
        self.source_tokens = Embedding(config.source_vocab, embed_dim, **made)
        self.target_tokens = self.source_tokens if config.shared else Embedding(config.target_vocab, embed_dim, **made)
        self.positions = SinusoidalPositions(embed_dim, device=device, dtype=dtype)
        self.source_dropout = Dropout(config.dropout)
        self.target_dropout = Dropout(config.dropout)
        self.transformer = Transformer(
            embed_dim,
            config.num_heads,
            config.num_encoder_layers,
            config.num_decoder_layers,
            config.dim_feedforward,
            config.dropout,
            config.activation,
            batch_first=True,
            norm_first=config.norm_first,
            implementation=implementation,
            share_weights=config.share_weights,
            recompute=recompute,
            **made,
        )
        self.projection: Tensor | None = None
        if not config.tied:
            self.projection = parameter(torch.empty(config.target_vocab, embed_dim, device=device, dtype=dtype))
        with torch.no_grad():
            normal_(self.source_tokens.weight, std=deviation, generator=generator)
            if not config.shared:
                normal_(self.target_tokens.weight, std=deviation, generator=generator)
            if self.projection is not None:
                normal_(self.projection, std=deviation, generator=generator)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (B, S), target (B, T) int64 -> logits of the token that follows each of the target, (B, T, V).

        The target begins with the token that stands for its beginning.
        """
        if source.dim() != 2 or target.dim() != 2 or source.shape[0] != target.shape[0]:
            raise ShapeError(
                f"Seq2SeqTransformer: given source {tuple(source.shape)} and target {tuple(target.shape)}, expected "
                "(B, S) and (B, T) with one B"
            )
        memory, padding = self._encode(source)
        x = self._embed(self.target_tokens, self.target_dropout, target)
        mask = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).triu_(1)
        # padding of the target stands behind its tokens, so that the causal mask hides it from them
        y = self.transformer.decoder.forward(x, memory, tgt_mask=mask, memory_key_padding_mask=padding)  # (B, T, E)
        self.save(y, reads=[self._output_weight()])
        return linear(y, self._output_weight(), None)  # z_btv = sum_e y_bte W_ve                                (2)

    def backward(self, dlogits: Tensor | None, *, input_gradient: bool = True) -> tuple[None, None]:
        """dlogits (B, T, V); tokens are whole numbers and get no gradient."""
        gradients = [self._projection_backward(dlogits)]
        del dlogits  # here and by pop(): what no variable holds any more is memory for what follows
        dx, dmemory = self.transformer.decoder.backward(gradients.pop())
        self._embed_backward(self.target_tokens, self.target_dropout, dx)
        self._embed_backward(self.source_tokens, self.source_dropout, self.transformer.encoder.backward(dmemory))
        return None, None

    def start(self, source: Tensor, width: int) -> DecodingState:
        """Read the source (B, S), for a search of `width` hypotheses a sentence; under `no_record()`.

        Raises:
            ShapeError: a source that is not (B, S).
        """
        if source.dim() != 2:
            raise ShapeError(f"Seq2SeqTransformer: given source {tuple(source.shape)}, expected (B, S)")
        memory, padding = self._encode(source)
        rows, max_length = source.shape[0] * width, source.shape[1] + 16
        return DecodingState(self.transformer.decoder.new_caches(memory, rows, max_length), padding, width)

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """tokens (R,), the last of each row -> logits (R, V) of the next."""
        for cache in state.caches:
            if cache.tokens.length == cache.tokens.max_length:
                cache.tokens.reserve(2 * cache.tokens.max_length)
        with no_record():
            x = self._embed(self.target_tokens, self.target_dropout, tokens.unsqueeze(1), state.length)
            y = self.transformer.decoder.step(x, state.caches, state.padding)
            state.length += 1
            return linear(y.squeeze(1), self._output_weight(), None)

    def select(self, state: DecodingState, rows: Tensor) -> None:
        """Let row i go on from what row `rows[i]` was, rows (R',) int64; whole sentences may be missing."""
        sentences = rows[:: state.width] // state.width
        fewer = len(sentences) < len(state.padding)
        for cache in state.caches:
            cache.tokens.select(rows)
            if fewer:
                key, value, owner = cache.memory
                cache.memory = ProjectedMemory(key[sentences], value[sentences], owner)
        if fewer:
            state.padding = state.padding[sentences]

    def _encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        padding = source == self.config.pad  # (B, S)
        x = self._embed(self.source_tokens, self.source_dropout, source)
        return self.transformer.encoder.forward(x, src_key_padding_mask=padding), padding

    def _embed(self, embedding: Embedding, dropout: Dropout, tokens: Tensor, offset: int = 0) -> Tensor:
        # x_bte = sqrt(E) W_(token bt),e + PE_te                                                                   (1)
        x = embedding.forward(tokens) * math.sqrt(self.config.embed_dim)
        return dropout.forward(self.positions.forward(x, offset))

    def _embed_backward(self, embedding: Embedding, dropout: Dropout, dx: Tensor | None) -> None:
        dx = self.positions.backward(dropout.backward(dx))
        embedding.backward(None if dx is None else dx * math.sqrt(self.config.embed_dim))

    def _projection_backward(self, dlogits: Tensor | None) -> Tensor | None:
        (y,) = self.saved()
        if dlogits is None:
            return None
        weight = self._output_weight()
        dy, dweight, _ = linear_backward(dlogits, y, weight, (True, weight.requires_grad, False))  # (3), (4)
        accumulate(weight, dweight)
        return dy

    def _output_weight(self) -> Tensor:
        return self.target_tokens.weight if self.projection is None else self.projection

    def extra_repr(self) -> str:
        return str(self.config)
