"""Encoder and decoder together: the Transformer of "Attention Is All You Need". Theory: docs/transformer.md."""

import math
from typing import Any

import torch
from ds_core import LayerNorm, Module, ShapeError
from ds_core.engine.composition import trainable
from ds_core.initializers import xavier_uniform_
from torch import Tensor

from ds_transformers.blocks.decoder import TransformerDecoder
from ds_transformers.blocks.decoder_layer import TransformerDecoderLayer
from ds_transformers.blocks.encoder import TransformerEncoder
from ds_transformers.blocks.encoder_layer import TransformerEncoderLayer

# B = batch, S = time of the source, T = time of the target, E = d_model


class Transformer(Module):
    """y = decoder(tgt, encoder(src)), without embeddings and without the projection to a vocabulary.

    Vaswani et al., 2017, figure 1. Twin of torch.nn.Transformer: same arguments, state_dict and initial values.

    Args:
        d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
            implementation, generator: as in `TransformerEncoderLayer`.
        num_encoder_layers, num_decoder_layers: the depth of each stack; both end in a norm, as the twin's do.
        custom_encoder, custom_decoder: built stacks to take instead, called and gone back through as ours are. Their
            matrices are drawn anew, as the twin does.
        share_weights, recompute: as in `TransformerEncoder`.

    Raises:
        ValueError: E not divisible by H, an unknown activation or implementation, a dropout outside 0 to 1.
        ShapeError: from `forward`, where src and tgt do not fit.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = "relu",
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        implementation: str = "vectorized",
        share_weights: bool = False,
        recompute: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        layer = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        drawn: dict[str, Any] = {**made, "implementation": implementation, "generator": generator}
        stack: dict[str, Any] = {"share_weights": share_weights, "recompute": recompute}

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, **made)

        if custom_encoder is None:
            encoder_layer = TransformerEncoderLayer(*layer, **drawn)
            custom_encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norm(), **stack)
        self.encoder = custom_encoder
        if custom_decoder is None:
            decoder_layer = TransformerDecoderLayer(*layer, **drawn)
            custom_decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norm(), **stack)
        self.decoder = custom_decoder
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        # the twin draws all matrices once more, by which the copies of a layer get weights of their own
        for tensor in self.parameters():
            if tensor.dim() > 1:
                with torch.no_grad():
                    xavier_uniform_(tensor, generator=generator)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """src (S, B, E), tgt (T, B, E) -> y (T, B, E); with `batch_first` (B, S, E), (B, T, E).

        Args:
            src_mask, tgt_mask, memory_mask: (S, S), (T, T), (T, S): True where a token may not see another, or
                floating and added. The target's is the causal one in training: `generate_square_subsequent_mask(T)`.
            src_key_padding_mask, tgt_key_padding_mask, memory_key_padding_mask: (B, S), (B, T), (B, S): True for
                padding. The memory's is the source's again, and has to be given.
            src_is_causal, tgt_is_causal, memory_is_causal: promises that a mask is the causal one; None finds out.

        Raises:
            ShapeError, ValueError, RuntimeError: inputs or masks that do not fit, promises that are not kept.
        """
        self._check(src, tgt)
        memory = self.encoder.forward(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        y: Tensor = self.decoder.forward(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return y

    def backward(self, dy: Tensor | None, *, input_gradient: bool = True) -> tuple[Tensor | None, Tensor | None]:
        """dy -> dsrc, dtgt."""
        of_memory = input_gradient or trainable(self.encoder)
        dtgt, dmemory = self.decoder.backward(dy, input_gradient=input_gradient, memory_gradient=of_memory)
        dsrc = self.encoder.backward(dmemory, input_gradient=input_gradient)  # dsrc = encoder'^T dmemory         (1)
        return dsrc, dtgt

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """(sz, sz): 0 where token i may see token j <= i, and -inf where it may not."""
        return torch.full((sz, sz), -math.inf, device=device, dtype=dtype).triu_(1)

    def _check(self, src: Tensor, tgt: Tensor) -> None:
        batch = 0 if self.batch_first else 1
        fits = src.dim() == tgt.dim() and src.dim() in (2, 3)
        fits = fits and src.shape[-1] == tgt.shape[-1] == self.d_model
        if not fits or (src.dim() == 3 and src.shape[batch] != tgt.shape[batch]):
            axes = "(B, S, E) and (B, T, E)" if self.batch_first else "(S, B, E) and (T, B, E)"
            raise ShapeError(
                f"Transformer: given src {tuple(src.shape)} and tgt {tuple(tgt.shape)}, expected {axes} with one B and "
                f"E = {self.d_model}, or the same without B"
            )

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, nhead={self.nhead}, batch_first={self.batch_first}"
