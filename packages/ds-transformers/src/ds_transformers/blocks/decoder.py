"""A stack of decoder layers. Theory: docs/decoder.md."""

from typing import Any

from ds_core import Module, ShapeError
from ds_core.engine.composition import backward_if, merge_gradients, trainable
from torch import Tensor

from ds_transformers.attentions.masks import resolve_causal
from ds_transformers.blocks.decoder_layer import DecoderCache
from ds_transformers.blocks.encoder import calls_of, copies


class TransformerDecoder(Module):
    """y = norm(f_n(... f_1(x, m) ..., m)) with n copies of one layer and one memory m for all.

    Vaswani et al., 2017, section 3.1. Twin of torch.nn.TransformerDecoder.

    Args:
        decoder_layer: what is copied, weights included, as a `TransformerDecoderLayer`.
        num_layers, norm, share_weights, recompute: as in `TransformerEncoder`.

    Raises:
        ValueError: `num_layers` below 1 with shared weights, below 0 otherwise.
    """

    def __init__(
        self,
        decoder_layer: Any,
        num_layers: int,
        norm: Any = None,
        *,
        share_weights: bool = False,
        recompute: bool = False,
    ) -> None:
        self.layers = copies("TransformerDecoder", decoder_layer, num_layers, share_weights)
        self.num_layers = num_layers
        self.norm = norm
        self.recompute = recompute

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """tgt, memory -> y of the shape of tgt; the arguments are the layers'.

        Args:
            tgt_is_causal: promises that `tgt_mask` is the causal mask; None finds out.

        Raises:
            ShapeError, ValueError, RuntimeError: as the layers do.
        """
        masks: dict[str, Any] = {
            "tgt_mask": tgt_mask,
            "memory_mask": memory_mask,
            "tgt_key_padding_mask": tgt_key_padding_mask,
            "memory_key_padding_mask": memory_key_padding_mask,
            "tgt_is_causal": resolve_causal(tgt_mask, tgt_is_causal),
            "memory_is_causal": memory_is_causal,
        }
        calls = calls_of(self.layers, self.num_layers, self.recompute)
        x = tgt
        for layer in calls:
            x = layer.forward(x, memory, **masks)
        y = x if self.norm is None else self.norm.forward(x)
        self.save(calls)
        return y

    def backward(
        self, dy: Tensor | None, *, input_gradient: bool = True, memory_gradient: bool | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """dy -> dtgt, dmemory.

        Args:
            input_gradient: whether dtgt is wanted.
            memory_gradient: whether dmemory is; as `input_gradient` where not given.
        """
        of_memory = input_gradient if memory_gradient is None else memory_gradient
        (calls,) = self.saved()

        def needed(index: int) -> bool:  # whether anything before this call is there to take a gradient
            return input_gradient or (of_memory and index > 0) or trainable(*calls[:index])

        dx = dy if self.norm is None else backward_if(needed(len(calls)), self.norm, dy)
        dmemory: Tensor | None = None
        for index, layer in reversed(list(enumerate(calls))):
            # dx_(k-1) = (df_k / dx_(k-1))^T dx_k and dm = sum_k (df_k / dm)^T dx_k                             (1), (2)
            gradients = layer.backward(dx, input_gradient=needed(index), memory_gradient=of_memory)
            dx, more = gradients or (None, None)  # a `Recompute` answers a gradient of None with one None
            dmemory = merge_gradients(dmemory, more)
        return dx if input_gradient else None, dmemory

    def step(self, x: Tensor, caches: list[DecoderCache], memory_key_padding_mask: Tensor | None = None) -> Tensor:
        """The next tokens x (N, T, E) of texts in the caches, one for each call of a layer -> y (N, T, E).

        Raises:
            ShapeError: another number of caches; as `TransformerDecoderLayer.step` otherwise.
        """
        if len(caches) != self.num_layers:
            raise ShapeError(f"{self!r}: given {len(caches)} caches, expected {self.num_layers}, one for each layer")
        for layer, cache in zip(calls_of(self.layers, self.num_layers, False), caches, strict=True):
            x = layer.step(x, cache, memory_key_padding_mask)
        return x if self.norm is None else self.norm.forward(x)

    def new_caches(self, memory: Tensor, rows: int, max_length: int) -> list[DecoderCache]:
        """One `DecoderCache` for each call of a layer, as `TransformerDecoderLayer.new_cache` makes it."""
        layers = calls_of(self.layers, self.num_layers, False)
        return [layer.new_cache(memory, rows, max_length) for layer in layers]

    def extra_repr(self) -> str:
        return f"num_layers={self.num_layers}, recompute={self.recompute}"
